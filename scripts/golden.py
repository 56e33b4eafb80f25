"""Hashes of all results of a tree for given seeds, to compare with another tree on the same machine.

    python scripts/golden.py --out new.json                    # the tree that is installed, or on PYTHONPATH
    python scripts/golden.py --out old.json --tree ../old      # another checkout, with its own command and weights
    python scripts/golden.py --compare old.json new.json       # names every difference; exit code 1 if there is one

It uses the command line only, so that trees with different Python APIs can be compared. Float results differ between
processors and PyTorch versions: compare files of the same machine only. `--model` samples from other weights than the
bundled ones: give the folder of an old checkout's bundled model once the weights have been trained again.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import nibabel
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden"
PHANTOM = """
import sys
from pathlib import Path
from synthorax import api
from synthorax.io.images import write_image
write_image(Path(sys.argv[1]), api.make_phantom(3, spacing_mm=(3.0, 2.5, 2.5), nodules=0).ct)
"""
CUBES = {
    "plain": ["-n", "40", "--seed", "3"],
    "asked": ["-n", "20", "--seed", "4", "--diameter", "10", "--texture", "5", "--malignancy", "3"],
    "large ground glass": ["-n", "8", "--seed", "5", "--diameter", "16", "--texture", "1"],
    "selected": ["-n", "12", "--seed", "6", "--select"],
    "without a nodule": ["-n", "20", "--seed", "7", "--no-positive"],
}
"""Options of samples of the AC-WGAN-GP."""
SHAPES = {
    "plain": ["-n", "20", "--seed", "3"],
    "near": ["-n", "9", "--seed", "4", "--near", "{balls}:1", "--radius", "0.3"],
    "walk": ["-n", "7", "--walk", "{balls}:0", "{balls}:5"],
}
"""Options of samples of LuNG."""
RESUMED = {
    "lung": ["train", "lung", "--data", "{here}/balls.npy"],
    "ac-wgan": ["train", "ac-wgan", "--data", "{here}/store"],
    "features": ["train", "features", "--data", "{here}/store", "--set", "steps=10"],
}
"""Commands that resume the runs in `runs.zip`; LuNG and the AC-WGAN-GP were stopped half-way."""


def main() -> int:
    """Write the hashes of a tree's results, or compare two such files; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--tree", type=Path, help="checkout whose command is run; the installed one if not given")
    parser.add_argument("--model", default="ac-wgan", help="AC-WGAN-GP that is sampled: a name or folder")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("OLD", "NEW"))
    given = parser.parse_args()
    if given.compare:
        return compare(*(json.loads(path.read_text()) for path in given.compare))
    if given.out is None:
        parser.error("give --out FILE, or --compare OLD NEW")
    made = {"machine": machine(), "made": dict(everything(given.model, given.tree))}
    given.out.write_text(json.dumps(made, indent=1) + "\n")
    return 0


def machine() -> dict[str, str]:
    """Return what float results depend on."""
    return {
        "processor": platform.machine(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def everything(model: str, tree: Path | None) -> Iterator[tuple[str, Any]]:
    """Give the name and the hash or value of each result."""
    with tempfile.TemporaryDirectory() as place:
        here = Path(place)
        run = Tree(tree, here)
        with ZipFile(GOLDEN / "runs.zip") as zipped:
            zipped.extractall(here)
        for name, options in CUBES.items():
            for which in (model, str(here / "runs" / "ac-wgan")):
                label = f"sample {'ac-wgan' if which == model else 'small ac-wgan'}, {name}"
                if which != model and name in ("selected", "large ground glass"):
                    continue  # it has not learned enough to select, and its cubes are too small
                yield from sampled(label, run, which, options, here)
        for name, command in RESUMED.items():
            out = here / "runs" / name
            config = ["--config", str(out / "config.yaml"), "--preset", "smoke", "--out", str(out)]
            if failed := run([word.format(here=here) for word in command] + config):
                yield f"resume {name}", failed
                continue
            yield f"resume {name}, weights", hash_of_weights(out / "weights.safetensors")
        for name, options in SHAPES.items():  # of the run that has gone on to its end
            options = [option.format(balls=here / "balls.npy") for option in options]
            yield from sampled(f"sample lung, {name}", run, str(here / "runs" / "lung"), options, here)
        yield from trained(run, here)
        yield from injected(run, here)


class Tree:
    """Return a checkout's command, or the installed one."""

    def __init__(self, tree: Path | None, here: Path) -> None:
        self.environment = os.environ | {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(here / "cache")}
        if tree is not None:
            self.environment["PYTHONPATH"] = str(tree.resolve() / "src")

    def __call__(self, arguments: list[str], code: str | None = None) -> str:
        """Run a verb or Python code; return the last line of its error, or an empty text."""
        start = ["-m", "synthorax"] if code is None else ["-c", code]
        done = subprocess.run(
            [sys.executable, *start, *arguments], env=self.environment, capture_output=True, text=True
        )
        return f"failed: {done.stderr.strip().splitlines()[-1]}" if done.returncode else ""


def sampled(label: str, run: Tree, model: str, options: list[str], here: Path) -> Iterator[tuple[str, Any]]:
    """Give voxels, table and manifest of a model's samples."""
    out = here / "samples" / label.replace(" ", "-").replace(",", "")
    if failed := run(["sample", model, *options, "--out", str(out)]):
        yield label, failed.replace(str(here), "").replace(str(out), "")
        return
    for table in out.glob("nodules.csv"):
        for i, row in enumerate(csv.DictReader(table.read_text().splitlines())):
            for column, value in row.items():
                yield f"{label}: {i} column {column}", value
    for kind, pattern in {"HU": "images/*.nii.gz", "mask": "masks/*.nii.gz", "shapes": "shapes.npy"}.items():
        for i, path in enumerate(sorted(out.glob(pattern))):
            yield f"{label}: {i} {kind}", hash_of(np.load(path) if path.suffix == ".npy" else voxels(path))
    for i, path in enumerate(sorted(out.glob("meshes/*.stl"))):  # without the header, which has the model's hash
        yield f"{label}: {i} mesh", hashlib.sha256(path.read_bytes()[80:]).hexdigest()[:16]
    for i, sample in enumerate(json.loads((out / "manifest.json").read_text())["samples"]):
        for key, value in flat({key: value for key, value in sample.items() if key != "files"}):
            yield f"{label}: {i} {key}", value


def trained(run: Tree, here: Path) -> Iterator[tuple[str, Any]]:
    """Give the weights of new runs of the smallest presets."""
    for system, data in (("lung", "balls.npy"), ("ac-wgan", "store"), ("features", "store")):
        out = here / "fresh" / system
        grid = ["--set", "grid=[6,8,8]", "--set", "spacing_mm=[1.25,1,1]"] if system == "lung" else []
        command = ["train", system, "--data", str(here / data), "--preset", "smoke", "--seed", "1", *grid]
        failed = run([*command, "--out", str(out)])
        yield f"train {system}, weights", failed or hash_of_weights(out / "weights.safetensors")


def injected(run: Tree, here: Path) -> Iterator[tuple[str, Any]]:
    """Give scan, mask and region of two nodules rendered into a phantom, and their table."""
    scan, out = here / "phantom.nii.gz", here / "injected"
    failed = run([str(scan)], PHANTOM) or run(
        ["inject", str(scan), "--auto", "2", "--diameter", "8,12", "--seed", "3", "--out", str(out)]
    )
    if failed:
        yield "inject", failed
        return
    yield "phantom: HU", hash_of(voxels(scan))
    for path in sorted(out.glob("*.nii.gz")):
        yield f"inject: {path.name}", hash_of(voxels(path))
    for i, row in enumerate(csv.DictReader((out / "nodules.csv").read_text().splitlines())):
        for column, value in row.items():
            yield f"inject: {i} column {column}", value


def voxels(path: Path) -> NDArray[Any]:
    """Return the voxels of a NIfTI file as stored."""
    return np.asarray(nibabel.nifti1.Nifti1Image.from_filename(path).dataobj)


def hash_of(array: NDArray[Any]) -> str:
    """Return a hash of an array's type, shape and values."""
    about = f"{array.dtype.name} {array.shape} "
    return about + hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def hash_of_weights(path: Path) -> str:
    """Return a hash of all tensors of a file, by name; the facts of a model were once named `real.`."""
    found = {re.sub(r"^facts\.", "real.", name): values for name, values in load_file(path).items()}
    return hashlib.sha256("".join(f"{name} {hash_of(found[name])}" for name in sorted(found)).encode()).hexdigest()[:16]


def flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Give the leaves of a nested mapping, by their dotted keys."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def compare(old: dict[str, Any], new: dict[str, Any]) -> int:
    """Print the differences, and results of only one tree; return 1 if a common result differs."""
    if old["machine"] != new["machine"]:
        print(f"made on different machines, so float results may differ: {old['machine']} and {new['machine']}")
    before, now = old["made"], new["made"]
    both = [key for key in before if key in now]
    differ = [key for key in both if before[key] != now[key]]
    for key in differ:
        print(f"differs: {key}: {before[key]} -> {now[key]}")
    for words, names in (("gone", [k for k in before if k not in now]), ("new", [k for k in now if k not in before])):
        for kind in dict.fromkeys(f"{key.split(':')[0]}: {key.split(' ')[-1]}" for key in names):
            print(f"{words}: {kind}")
    print(f"{len(both) - len(differ)} of {len(both)} equal; {len(before) - len(both)} gone, {len(now) - len(both)} new")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
