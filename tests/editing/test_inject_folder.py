"""Nodules added to every scan of a folder in one call.

The bytes are the same for any number of processes, and every reader can read them.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

import synthorax as sx
from synthorax.cli import main
from synthorax.datasets.phantoms import make_phantom
from synthorax.errors import InputError, SynthoraxError
from synthorax.io.dicom_out import write_ct_series
from synthorax.io.images import read_image, write_image
from synthorax.io.tables import read_table, write_table
from synthorax.makers import Filled, Lineage
from synthorax.provenance import synthetic_patient
from synthorax.seeding import derive
from tests.helpers.balls import ball_mask
from tests.helpers.chests import small_chest
from tests.helpers.files import contents

NODULES = {"auto": 2, "diameter_mm": (14, 18), "seed": 4}


class Ball:
    """A method that adds a dense ball; if a file is given, it kills its own process once and notes that in the file."""

    name, lineage = "ball", Lineage("ball", outlines=frozenset({"0" * 12}))
    heeds, roles = frozenset({"diameter_mm"}), frozenset({"injects"})

    def __init__(self, once: Path | None = None, parent: int = 0):
        self.once, self.parent = once, parent

    def reach_mm(self, edit):
        return edit.nodule.diameter_mm, edit.nodule.diameter_mm / 2 + 4

    def fill_many(self, patches, regions, edits, seeds):
        if self.once is not None and not self.once.exists() and os.getpid() != self.parent:
            self.once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return [self.fill(*one) for one in zip(patches, edits, seeds, strict=True)]

    def fill(self, patch, edit, seed):
        ball = ball_mask(patch.shape, edit.nodule.diameter_mm, patch.spacing_mm)
        noise = np.random.default_rng(seed).normal(0, 20, patch.shape)
        return Filled(np.where(ball, 100 + noise, patch.voxels).astype(np.float32), ball, edit.nodule)


@pytest.fixture(scope="module")
def phantoms():
    return [small_chest(seed) for seed in (3, 4)]


@pytest.fixture(scope="module")
def folder(phantoms, tmp_path_factory):
    """Two patients' images of one name, and a DICOM series."""
    folder = tmp_path_factory.mktemp("scans")
    for name, ct in zip(("ann", "bob"), phantoms, strict=True):
        (folder / name).mkdir()
        write_image(folder / name / "ct.nii.gz", ct)
    write_ct_series(folder / "cyd", phantoms[0], mark=None)
    return folder


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
    """The folder injected by one process."""
    return sx.inject_folder(folder, tmp_path_factory.mktemp("made") / "one", Ball(), workers=1, **NODULES)


def test_every_scan_is_a_case_and_a_table_and_a_manifest_lie_over_all(made, folder, phantoms):
    series = synthetic_patient(sx.read_scan(folder / "cyd").patient_id)
    assert made.cases == ("ann_ct", "bob_ct", series)
    assert not made.failed
    manifest = json.loads((made.out / "manifest.json").read_text())
    assert [case["case"] for case in manifest["cases"]] == list(made.cases)
    assert Lineage.from_row(manifest["lineage"]) == replace(Ball.lineage, outlines=frozenset())
    rows = read_table(made.out / "nodules.csv")
    assert len(rows) == made.nodules == 6
    assert {row["patient_id"] for row in rows} == {synthetic_patient("ann"), synthetic_patient("bob"), series}
    for row in rows:
        assert (made.out / row["image"]).exists()
        assert (made.out / row["mask"]).exists()
    ct, region = (read_image(made.out / "bob_ct" / f"ct{name}.nii.gz").voxels for name in ("", "_region"))
    assert (ct == phantoms[1].voxels)[region == 0].all()
    assert (ct != phantoms[1].voxels)[region > 0].any()


def test_a_case_is_what_inject_makes_of_its_scan_with_the_seed_that_it_tells(made, folder):
    seed = json.loads((made.out / "bob_ct" / "manifest.json").read_text())["seed"]
    assert seed == derive(4, "bob/ct.nii.gz")
    alone = sx.inject(folder / "bob" / "ct.nii.gz", Ball(), **NODULES | {"seed": seed})
    assert (read_image(made.out / "bob_ct" / "ct.nii.gz").voxels == alone.ct.voxels).all()


def test_processes_one_of_which_is_killed_and_a_cluster_make_the_same_bytes(made, folder, tmp_path):
    distributed = pytest.importorskip("distributed")
    killer = Ball(tmp_path / "killed", os.getpid())
    with pytest.raises(SynthoraxError, match="a worker process was killed at"):
        sx.inject_folder(folder, tmp_path / "two", killer, workers=2, **NODULES)
    sx.inject_folder(folder, tmp_path / "two", killer, workers=2, **NODULES)
    assert contents(tmp_path / "two") == contents(made.out)
    options = {"n_workers": 1, "threads_per_worker": 2, "processes": False, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster:
        address = cluster.scheduler_address
        sx.inject_folder(folder, tmp_path / "dask", Ball(), cluster=address, **NODULES)
    assert contents(tmp_path / "dask") == contents(made.out)


def test_a_stopped_call_makes_only_the_cases_that_are_missing_and_another_request_is_refused(
    made, folder, tmp_path, capsys
):
    out = tmp_path / "again"
    shutil.copytree(made.out, out)
    shutil.rmtree(out / "bob_ct")
    (out / "nodules.csv").unlink()
    before = (out / "ann_ct" / "ct.nii.gz").stat().st_mtime_ns
    assert sx.inject_folder(folder, out, Ball(), workers=1, **NODULES) == replace(made, out=out)
    assert contents(out) == contents(made.out)
    assert (out / "ann_ct" / "ct.nii.gz").stat().st_mtime_ns == before
    kept = len(made.cases) - 1
    assert f"{out}: {kept} of {kept + 1} cases kept from an earlier call" in capsys.readouterr().err
    with pytest.raises(
        InputError, match="cases of another request \\(--seed was 4, now 5\\); expected the same request, or --over"
    ):
        sx.inject_folder(folder, out, Ball(), workers=1, **NODULES | {"seed": 5})
    assert contents(out) == contents(made.out)
    other = sx.inject_folder(folder, out, Ball(), workers=1, overwrite=True, **NODULES | {"seed": 5})
    assert other.cases == made.cases
    assert contents(out)["ann_ct/ct.nii.gz"] != contents(made.out)["ann_ct/ct.nii.gz"]


def test_every_reader_takes_the_folder_as_one_source(made, tmp_path):
    for kind in ("patches", "scans"):
        store = sx.prepare(kind, made.out, tmp_path / kind, workers=1)
        assert sorted(len(case.nodules) for case in store.cases) == [2, 2, 2]
        assert {case.patient_id for case in store.cases} == {
            row["patient_id"] for row in read_table(made.out / "nodules.csv")
        }
        assert all(case.synthetic and case.annotated == "some" for case in store.cases)
        assert all(nodule.label for case in store.cases for nodule in case.nodules)


def test_a_scan_that_cannot_be_read_is_named_and_left_out_and_it_is_an_error_if_none_can(folder, tmp_path, capsys):
    scans, out = tmp_path / "scans", tmp_path / "out"
    shutil.copytree(folder / "ann", scans / "ann")
    (scans / "broken.nii.gz").write_bytes(b"no image")
    command = ["inject", str(scans), "--auto", "1", "--diameter", "16", "--out", str(out), "--workers", "1"]
    assert main(command) == 0
    said = capsys.readouterr()
    assert "broken" in said.err
    assert f"{out}: 1 scan with 1 added nodule; 1 scan failed" in said.out
    manifest = json.loads((out / "manifest.json").read_text())
    assert [case["case"] for case in manifest["failed"]] == ["broken"]
    (scans / "ann" / "ct.nii.gz").unlink()
    assert main([*command[:-3], str(tmp_path / "none")]) == 2
    assert "broken.nii.gz" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_where_no_scan_can_be_edited_the_line_says_what_the_first_one_needs(folder, tmp_path):
    message = "3 scans: found none that can be edited; the first: diameter: 80 mm; expected at most 50 mm with ball"

    class Narrow(Ball):
        def reach_mm(self, edit):
            raise InputError("diameter", f"{edit.nodule.diameter_mm:g} mm", "at most 50 mm with ball")

    with pytest.raises(InputError, match=message):
        sx.inject_folder(folder, tmp_path / "out", Narrow(), auto=1, diameter_mm=80, workers=1)


def test_nodules_that_the_folder_tells_of_stay_in_the_new_masks(phantoms, tmp_path):
    (tmp_path / "scans").mkdir()
    first = sx.inject(phantoms[0], Ball(), auto=1, diameter_mm=15, seed=1)
    write_image(tmp_path / "scans" / "a.nii.gz", first.ct)
    write_image(tmp_path / "scans" / "a_mask.nii.gz", first.mask)
    write_table(tmp_path / "scans" / "nodules.csv", [{"image": "a.nii.gz", "mask": "a_mask.nii.gz"}])
    made = sx.inject_folder(tmp_path / "scans", tmp_path / "out", Ball(), workers=1, auto=1, diameter_mm=14)
    assert (made.cases, made.nodules) == (("a",), 2)
    labels = read_image(tmp_path / "out" / "a" / "a_mask.nii.gz").voxels
    assert ((labels == 1) == (first.mask.voxels == 1)).all()
    assert (labels == 2).any()


def test_images_of_a_folder_belong_to_the_patients_that_the_user_tells_apart(phantoms, tmp_path):
    (tmp_path / "scans").mkdir()
    for name in ("ann_1", "ann_2"):
        write_image(tmp_path / "scans" / f"{name}.nii.gz", phantoms[0])
    wanted = {"auto": 1, "diameter_mm": 14, "workers": 1}
    made = sx.inject_folder(tmp_path / "scans", tmp_path / "out", Ball(), patient_from="([a-z]+)_", **wanted)
    assert {row["patient_id"] for row in read_table(made.out / "nodules.csv")} == {synthetic_patient("ann")}


@pytest.mark.prove
def test_twenty_phantoms_over_two_processes_and_a_cluster_with_a_kill_each_are_the_same_bytes(tmp_path):
    distributed = pytest.importorskip("distributed")
    (tmp_path / "scans").mkdir()
    for seed in range(20):
        ct = make_phantom(seed, spacing_mm=(4.0, 3.0, 3.0), nodules=0).ct
        write_image(tmp_path / "scans" / f"{seed:02d}.nii.gz", ct)
    wanted = {"auto": 2, "diameter_mm": 12, "seed": 1}
    one = sx.inject_folder(tmp_path / "scans", tmp_path / "one", workers=1, **wanted)
    assert len(one.cases) == 20
    command = f"inject {tmp_path}/scans --auto 2 --diameter 12 --seed 1 --workers 2 --out {tmp_path}/two".split()
    process = subprocess.Popen([sys.executable, "-m", "synthorax", *command])
    wait_for(tmp_path / "two", 8)
    (worker, *_) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(worker), signal.SIGKILL)
    assert process.wait() == 1
    assert 8 <= len(list((tmp_path / "two").glob("*/manifest.json"))) < 20
    assert main(command) == 0
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        worker = next(worker.pid for worker in cluster.workers.values())
        killing = Thread(target=lambda: (wait_for(tmp_path / "dask", 8), os.kill(worker, signal.SIGKILL)))
        killing.start()
        sx.inject_folder(tmp_path / "scans", tmp_path / "dask", cluster=cluster.scheduler_address, **wanted)
        killing.join()
    assert contents(tmp_path / "dask") == contents(tmp_path / "one")


def wait_for(folder, cases):
    while len(list(folder.glob("*/manifest.json"))) < cases:
        time.sleep(0.05)
