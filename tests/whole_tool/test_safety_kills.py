"""Long proofs: a hundred kills of every verb that writes, and a disk that is full."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from prove_kills import FAULTS
from tests.helpers.stores import cases, store_of

SCRIPTS = Path(__file__).parents[2] / "scripts"
KILLS = 100


@pytest.mark.prove
def test_after_each_of_a_hundred_kills_out_is_whole_and_the_next_call_succeeds(tmp_path):
    """In a process of its own, which forks from what it has imported."""
    command = [
        sys.executable,
        str(SCRIPTS / "prove_kills.py"),
        "--kills",
        str(KILLS),
        "--folder",
        str(tmp_path / "work"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *faults, last = done.stdout.splitlines()
    counts = json.loads(last)
    assert counts["kills"] == KILLS
    assert counts["landed"] >= KILLS // 3
    assert not any(counts[name] for name in FAULTS), "\n".join(faults)


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.prove
@pytest.mark.parametrize(
    "command",
    [
        "prepare phantom --scans 2 --spacing 4,4,4 --workers 2",
        "prepare shapes",
        "sample ac-wgan -n 60",
        "inject {input}/chest.nii.gz --auto 1 --diameter 12",
        "train lung --data {input}/balls.npy --preset smoke --device cpu",
        "train class-aware --data {input}/store --preset smoke --device cpu",
    ],
)
def test_a_full_disk_is_one_line_that_says_so_and_nothing_is_left(small_disk, tmp_path, command):
    from synthorax.datasets.phantoms import make_phantom
    from synthorax.io.images import write_image

    (tmp_path / "input").mkdir()
    if "chest" in command:
        write_image(tmp_path / "input" / "chest.nii.gz", make_phantom(0, spacing_mm=(2.0, 2.0, 2.0), nodules=0).ct)
    masks = np.zeros((4, 20, 40, 40), np.float32)
    masks[:, 8:12, 18:22, 18:22] = 1
    np.save(tmp_path / "input" / "balls.npy", masks)
    store_of(tmp_path / "input" / "store", cases(2, readers=((1, 2, 1), (5, 4, 5)), size=24))
    (small_disk / "filler").write_bytes(bytes(2_000_000 if command.startswith("train") else 1_500_000))
    words = command.format(input=tmp_path / "input").split()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    code = "import sys; from synthorax.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, *words, "--out", str(small_disk / "out")],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 2, done.stderr
    assert " space" in done.stderr.splitlines()[-1]  # "no space left", or NumPy's "not enough free space"
    assert "Traceback" not in done.stderr
    assert not list(small_disk.rglob(".tmp-*"))
    if not command.startswith(("train", "prepare phantom")):  # which go on where they stopped
        assert [path.name for path in small_disk.iterdir()] == ["filler"]
