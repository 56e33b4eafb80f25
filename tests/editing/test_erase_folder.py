"""Nodules erased from every scan of a folder in one call, with the same result as one call for each scan."""

import json
import shutil

import numpy as np
import pytest

import synthorax as sx
from synthorax.cli import main
from synthorax.errors import InputError
from synthorax.io.dicom_out import write_ct_series
from synthorax.io.images import read_image, write_image
from synthorax.io.tables import write_table
from synthorax.makers import Filled, Lineage
from synthorax.provenance import synthetic_patient
from synthorax.seeding import derive
from tests.helpers.balls import ball_mask
from tests.helpers.chests import small_chest
from tests.helpers.files import contents


class Healer:
    """A method that fills a nodule's voxels, or the ball of its diameter, with noisy lung."""

    name, lineage = "healer", Lineage("healer")
    heeds, roles = frozenset({"diameter_mm"}), frozenset({"erases"})

    def reach_mm(self, edit):
        return edit.nodule.diameter_mm, edit.nodule.diameter_mm / 2 + 8

    def fill_many(self, patches, regions, edits, seeds):
        return [self.fill(*one) for one in zip(patches, edits, seeds, strict=True)]

    def fill(self, patch, edit, seed):
        ball = ball_mask(patch.shape, edit.nodule.diameter_mm + 2, patch.spacing_mm)
        gone = ball if edit.mask is None else edit.mask
        lung = np.random.default_rng(seed).normal(-860, 20, patch.shape)
        return Filled(np.where(gone, lung, patch.voxels).astype(np.float32), None, edit.nodule)


@pytest.fixture(scope="module")
def ill():
    return sx.inject(small_chest(3), auto=2, diameter_mm=(12, 16), seed=2)


@pytest.fixture(scope="module")
def folder(ill, tmp_path_factory):
    """Return a folder: Ann's nodules have a mask, one of Bob's a centre and a diameter, Cyd has no known nodule.

    One file is broken.
    """
    folder = tmp_path_factory.mktemp("ill")
    for name in ("ann", "bob"):
        write_image(folder / f"{name}.nii.gz", ill.ct)
    write_image(folder / "outlines.nii.gz", ill.mask)
    write_ct_series(folder / "cyd", small_chest(4), mark=None)
    (folder / "broken.nii.gz").write_bytes(b"no image")
    x, y, z = ill.nodules[1].center_mm
    rows = [{"image": "ann.nii.gz", "mask": "outlines.nii.gz", "mask_label": label} for label in (1, 2)]
    place = {"center_x_mm": x, "center_y_mm": y, "center_z_mm": z, "diameter_mm": 16}
    rows = [row | dict.fromkeys(place, "") for row in rows]
    rows.append({"image": "bob.nii.gz", "mask": "", "mask_label": "", **place})
    write_table(folder / "nodules.csv", rows)
    return folder


@pytest.fixture(scope="module")
def healed(folder, tmp_path_factory):
    return sx.erase_folder(folder, tmp_path_factory.mktemp("healed") / "one", Healer(), seed=5, workers=1)


def test_the_nodules_that_a_folder_tells_of_are_taken_out_and_all_other_scans_are_named(healed, ill, folder):
    unknown = synthetic_patient(sx.read_scan(folder / "cyd").patient_id)
    assert (healed.cases, healed.nodules) == (("ann", "bob"), 3)
    assert set(healed.failed) == {"broken", unknown}
    assert "nodules: found none known" in healed.failed[unknown]
    manifest = json.loads((healed.out / "manifest.json").read_text())
    assert [len(case["erased"]) for case in manifest["cases"]] == [2, 1]
    assert manifest["annotated"] == "none-known"
    assert not (healed.out / "nodules.csv").exists()
    before = ill.mask.voxels == 2
    for name in healed.cases:
        ct, region = (read_image(healed.out / name / f"{name}{part}.nii.gz").voxels for part in ("", "_region"))
        assert np.median(ct[before]) < -800 < -400 < np.median(ill.ct.voxels[before])
        assert (ct == ill.ct.voxels)[region == 0].all()


def test_a_case_is_what_erase_makes_of_its_scan_with_the_seed_that_it_tells(healed, ill, folder):
    seed = json.loads((healed.out / "ann" / "manifest.json").read_text())["seed"]
    assert seed == derive(5, "ann.nii.gz")
    alone = sx.erase(folder / "ann.nii.gz", Healer(), labels=ill.mask, seed=seed)
    assert (read_image(healed.out / "ann" / "ann.nii.gz").voxels == alone.ct.voxels).all()


def test_a_stopped_call_takes_out_what_is_missing_and_injected_cases_are_not_taken_for_erased_ones(
    healed, folder, tmp_path
):
    out = tmp_path / "again"
    shutil.copytree(healed.out, out)
    shutil.rmtree(out / "bob")
    (out / "manifest.json").unlink()
    before = (out / "ann" / "ann.nii.gz").stat().st_mtime_ns
    sx.erase_folder(folder, out, Healer(), seed=5, workers=2)
    assert contents(out) == contents(healed.out)
    assert (out / "ann" / "ann.nii.gz").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="cases of another request \\(the verb was erase, now inject\\)"):
        sx.inject_folder(folder, out, auto=1, diameter_mm=10, seed=5, workers=1)


def test_a_table_says_which_nodules_of_which_scans(ill, folder, tmp_path):
    x, y, z = ill.nodules[0].center_mm
    row = {"image": "bob.nii.gz", "center_x_mm": x, "center_y_mm": y, "center_z_mm": z, "diameter_mm": 12}
    write_table(tmp_path / "plan.csv", [row])
    made = sx.erase_folder(folder, tmp_path / "out", Healer(), plan=tmp_path / "plan.csv", workers=1)
    assert (made.cases, made.nodules) == (("bob",), 1)
    ct = read_image(made.out / "bob" / "bob.nii.gz").voxels
    assert np.median(ct[ill.mask.voxels == 1]) < -800
    assert (ct == ill.ct.voxels)[ill.mask.voxels == 2].all()
    write_table(tmp_path / "nowhere.csv", [row | {"center_x_mm": "", "center_y_mm": "", "center_z_mm": ""}])
    with pytest.raises(InputError, match=r"nowhere\.csv, line 2, place: found none"):
        sx.erase_folder(folder, tmp_path / "none", Healer(), plan=tmp_path / "nowhere.csv", workers=1)


def test_a_nodule_that_the_method_cannot_take_out_leaves_its_scan_out_and_nothing_is_written_if_that_is_all(
    ill, tmp_path
):
    (tmp_path / "ill").mkdir()
    write_image(tmp_path / "ill" / "ann.nii.gz", ill.ct)
    x, y, z = ill.nodules[1].center_mm
    row = {"image": "ann.nii.gz", "center_x_mm": x, "center_y_mm": y, "center_z_mm": z, "diameter_mm": 16}
    write_table(tmp_path / "ill" / "nodules.csv", [row])

    class Narrow(Healer):
        def reach_mm(self, edit):
            if edit.nodule.diameter_mm <= 14:
                return super().reach_mm(edit)
            raise InputError("diameter", f"{edit.nodule.diameter_mm:g} mm", "at most 14 mm with healer")

    both = [row | {"nodule_id": "1"}, row | {"nodule_id": "2", "diameter_mm": 12, "center_z_mm": z + 30}]
    write_table(tmp_path / "ill" / "nodules.csv", both)
    alone = "or erase the others of this scan alone: erase .*ann.nii.gz --labels 2"
    refusal = f"nodule 01, diameter: found 16 mm; .* healer; {alone}"
    with pytest.raises(InputError, match=refusal):
        sx.erase_folder(tmp_path / "ill", tmp_path / "out", Narrow(), workers=1)
    write_table(tmp_path / "ill" / "nodules.csv", [row])
    with pytest.raises(InputError, match="diameter: found 16 mm; expected at most 14 mm with healer"):
        sx.erase_folder(tmp_path / "ill", tmp_path / "out", Narrow(), workers=1)
    assert not (tmp_path / "out").exists()


def test_places_of_one_scan_are_refused_for_a_folder_and_workers_for_one_scan(folder, tmp_path, capsys):
    command = ["erase", str(folder), "--with", "eraser", "--out", str(tmp_path / "out")]
    assert main([*command, "--at", "0,0,0", "--diameter", "8"]) == 2
    assert "--at: found given with a folder of scans" in capsys.readouterr().err
    assert main([*command, "--labels", "1"]) == 2
    assert "--labels: found given with a folder of scans" in capsys.readouterr().err
    command[1] = str(folder / "ann.nii.gz")
    assert main([*command, "--workers", "2"]) == 2
    assert "--workers: found given with one scan" in capsys.readouterr().err
