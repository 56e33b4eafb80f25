"""Whole scans are written as they are generated, continued after a stop, and given nodules.

The manifest records what is known of them.
"""

import json
import os
import signal
import subprocess
import sys
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from synthorax import api
from synthorax.api.scans import gets_nodules
from synthorax.cli import main
from synthorax.datasets.scan_folder import SCANS_MADE
from synthorax.errors import InputError, Stopped
from synthorax.io.images import read_image, read_mark
from synthorax.provenance import SYNTHETIC_MARK, patient_key
from synthorax.training import loop
from tests.helpers.stores import cases, store_of
from tests.helpers.toy_makers import KNOWN, Chests, Dots

SETTINGS = {"region": "cube", "steps": 1}


def contents(folder):
    """The bytes of every file below a folder."""
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def manifest(folder):
    return json.loads((folder / "manifest.json").read_text())


def test_scans_are_on_disk_with_their_spacing_and_say_that_they_are_synthetic(tmp_path):
    made = api.sample_scans(Chests(), 2, tmp_path / "out", seed=3)
    assert made.scans == 2
    image = tmp_path / "out" / "images" / "00001.nii.gz"
    scan = read_image(image)
    assert np.array_equal(scan.voxels, Chests().scan(1, 3).whole().voxels)
    assert scan.spacing_mm == (6.0, 4.5, 4.5)
    assert read_mark(image).startswith(SYNTHETIC_MARK)
    about = manifest(tmp_path / "out")
    assert (about["system"], about["seed"], about["annotated"]) == ("chests", 3, "all")
    assert [row["number"] for row in about["samples"]] == [0, 1]
    assert api.info(tmp_path / "out")["samples"] == 2


def test_memory_does_not_follow_the_depth_of_a_scan(tmp_path):
    peaks = []
    for depth in (40, 4000):
        tracemalloc.start()
        try:
            api.sample_scans(replace(Chests(), depth=depth), 1, tmp_path / f"{depth}")
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] - peaks[0] < 3960 * 72 * 72 * 2 / 20


def test_a_call_that_was_stopped_is_gone_on_with_to_the_same_bytes(tmp_path):
    with pytest.raises(Stopped, match="after 2 of 4 scans; the same command goes on"):
        api.sample_scans(replace(Chests(), stops_before=2), 4, tmp_path / "out")
    assert api.info(tmp_path / "out") == {"holds": "samples that were not finished", "samples": 2}
    assert not (tmp_path / "out" / "manifest.json").exists()
    before = {name: os.stat(tmp_path / "out" / name).st_mtime_ns for name in ("images/00000.nii.gz",)}
    api.sample_scans(Chests(), 4, tmp_path / "out")
    assert {name: os.stat(tmp_path / "out" / name).st_mtime_ns for name in before} == before
    api.sample_scans(Chests(), 4, tmp_path / "whole")
    parts, whole = contents(tmp_path / "out"), contents(tmp_path / "whole")
    assert parts.keys() == whole.keys()
    assert all(parts[name] == whole[name] for name in parts)


def test_a_scan_whose_line_was_cut_off_or_whose_file_is_gone_is_made_anew(tmp_path):
    out = tmp_path / "out"
    api.sample_scans(Chests(), 3, out)
    first = contents(out)
    lines = (out / SCANS_MADE).read_text()
    (out / SCANS_MADE).write_text(lines[: len(lines) - 40])
    (out / "images" / "00000.nii.gz").unlink()
    api.sample_scans(Chests(), 3, out)
    again = contents(out)
    assert all(again[name] == first[name] for name in first if name != SCANS_MADE)


def test_more_scans_join_those_that_are_there_and_other_requests_are_refused(tmp_path):
    out = tmp_path / "out"
    api.sample_scans(Chests(), 2, out)
    assert api.sample_scans(Chests(), 3, out).scans == 3
    with pytest.raises(InputError, match="3 scans of this request; expected -n 3 or more"):
        api.sample_scans(Chests(), 2, out)
    with pytest.raises(InputError, match=r"scans of another request \(--seed was 0, now 1\)"):
        api.sample_scans(Chests(), 3, out, seed=1)
    api.sample_scans(Chests(), 1, out, seed=1, overwrite=True)
    assert [file.name for file in (out / "images").iterdir()] == ["00000.nii.gz"]
    assert manifest(out)["seed"] == 1
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        api.sample_scans(Chests(), 1, tmp_path / "other")
    assert contents(tmp_path / "other") == {"file": b"mine"}


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.9, 1.0])
def test_of_any_number_of_scans_the_share_gets_nodules_to_one(share):
    for seed in range(5):
        chosen = np.cumsum([gets_nodules(i, share, seed) for i in range(50)])
        assert (np.abs(chosen - share * np.arange(1, 51)) <= 1).all()


def test_half_of_the_scans_get_nodules_with_masks_and_a_store_knows_them_all(tmp_path):
    out = tmp_path / "out"
    made = api.sample_scans(Chests(), 2, out, seed=1, inject=Dots(), diameter_mm=24.0)
    about = manifest(out)
    with_mask = [row for row in about["samples"] if "masks" in row]
    assert (len(with_mask), made.nodules, about["annotated"]) == (1, 1, "all")
    row = with_mask[0]
    mask = read_image(out / row["masks"]["nifti"])
    plain = Chests().scan(row["index"], 1).whole().voxels
    changed = read_image(out / row["files"]["nifti"]).voxels != plain
    assert mask.voxels.max() == 1
    assert not (changed & (mask.voxels == 0)).any()
    store = api.prepare("patches", out, tmp_path / "store", split=(1, 0, 0), workers=1)
    assert sorted((case.annotated, len(case.nodules)) for case in store.cases) == [("all", 0), ("all", 1)]
    for case in store.cases:
        assert case.lineage.seen == KNOWN
        assert case.lineage.outlines == {patient_key("LIDC-IDRI-0001")}
    exported = api.export(out, tmp_path / "exported", "monai")
    assert "1 nodule" in str(exported) or exported


def test_scans_of_a_maker_that_may_make_nodules_are_not_taken_for_healthy(tmp_path):
    doubtful = replace(Chests(), nodules_known="none-known")
    api.sample_scans(doubtful, 1, tmp_path / "out")
    store = api.prepare("patches", tmp_path / "out", tmp_path / "store", split=(1, 0, 0), workers=1)
    assert [case.annotated for case in store.cases] == ["none-known"]
    api.sample_scans(doubtful, 1, tmp_path / "some", inject=Dots(), share=1.0, diameter_mm=24.0)
    assert manifest(tmp_path / "some")["annotated"] == "some"


def test_a_scan_that_no_nodule_can_be_put_into_is_kept_and_told(tmp_path):
    class Blank(Chests):
        def _slices(self, index, seed):
            yield np.zeros((self.depth, 72, 72), np.int16)

    made = api.sample_scans(Blank(), 1, tmp_path / "out", inject=Dots(), share=1.0, diameter_mm=24.0)
    assert made.nodules == 0
    assert made.notes[0].startswith("00000: no nodule was put in: scan: found no lung")
    assert not (tmp_path / "out" / "masks").exists()


def test_slabs_that_are_not_what_the_maker_said_are_refused(tmp_path):
    class Short(Chests):
        def _slices(self, index, seed):
            yield np.zeros((3, 72, 72), np.int16)

    with pytest.raises(InputError, match="scan: found 3 slices; expected 40"):
        api.sample_scans(Short(), 1, tmp_path / "out")
    assert not list((tmp_path / "out" / "images").iterdir())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of the smallest model, of one step."""
    place = tmp_path_factory.mktemp("run")
    store = store_of(place / "store", cases(1, size=20))
    given = {"preset": "smoke", "settings": SETTINGS, "device": "cpu", "cache": place / "cache"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_picture", lambda *_: None)  # it takes longer than the training
        api.train("ct-sgan", store, place / "run", **given)
    return place / "run"


def test_the_verb_makes_scans_of_any_depth(run, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["sample", str(run), "-n", "2", "--depth", "5", "--out", str(out)]) == 0
    assert f"{out}: 2 scans" in capsys.readouterr().out
    scan = read_image(out / "images" / "00000.nii.gz")
    assert scan.shape == (5, 16, 16)
    assert scan.spacing_mm == pytest.approx((16 / 5, 1.0, 1.0))
    assert manifest(out)["how"] == {"depth": 5}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--depth", "2"], "depth: found '2'; expected greater than or equal to 3"),
        (["--share", "0.2"], "--share: found 0.2 without --inject; expected --share together with --inject METHOD"),
        (["--share", "1.5", "--inject", "render"], "share: found 1.5; expected 0 to 1"),
        (["--inject", "magic"], "'magic'; expected one that injects"),
        (["--inject", "render", "--diameter", "400"], "diameter: found 400 mm"),
        (["--texture", "5"], "--texture"),
        (["--n", "0"], "-n: found 0"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(run, tmp_path, capsys, options, said):
    assert main(["sample", str(run), "--out", str(tmp_path / "out"), *options]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_maker_of_scans_is_refused_where_patches_are_sampled(run):
    with pytest.raises(InputError, match="a system that makes scans; expected one that makes patches or makes shapes"):
        api.sample(run, 1)


KILLED = """
import sys
from synthorax import api
from tests.helpers.toy_makers import Chests
api.sample_scans(Chests(), 20, sys.argv[1], seed=5)
"""


@pytest.mark.prove
def test_twenty_scans_with_a_kill_between_end_in_the_same_bytes(tmp_path):
    """The process is killed once five scans are there, while it makes another."""
    command = [sys.executable, "-c", KILLED, str(tmp_path / "out")]
    process = subprocess.Popen(command)
    made = tmp_path / "out" / SCANS_MADE
    while not (made.exists() and len(made.read_text().splitlines()) > 5):
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert subprocess.run(command, check=False).returncode == 0
    api.sample_scans(Chests(), 20, tmp_path / "whole", seed=5)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.prove
def test_a_disk_that_fills_is_one_line_and_the_same_command_goes_on_once_there_is_room(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=False).returncode != 0:
        pytest.skip("only root can mount a small disk")
    try:
        command = [sys.executable, "-c", KILLED.replace("api.sample_scans", "main = api.sample_scans; main")]
        full = subprocess.run([*command, str(disk / "out")], capture_output=True, text=True, check=False)
        assert "OutputError" in full.stderr
        assert "no space left" in full.stderr
        there = [file.name for file in (disk / "out" / "images").iterdir()]
        assert there
        assert all(name[0].isdigit() for name in there)  # nothing half-written
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        assert subprocess.run([*command, str(disk / "out")], check=False).returncode == 0
        api.sample_scans(Chests(), 20, tmp_path / "whole", seed=5)
        again, whole = contents(disk / "out"), contents(tmp_path / "whole")
        assert {name: again[name] for name in again if name != SCANS_MADE} == {
            name: whole[name] for name in whole if name != SCANS_MADE
        }
    finally:
        subprocess.run(["umount", str(disk)], check=True)
