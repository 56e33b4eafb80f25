"""A scan edited step by step: the steps are those of the verbs, and can be taken back."""

from dataclasses import replace

import numpy as np
import pytest

import synthorax as sx
from synthorax.api.edit_session import EditSession
from synthorax.errors import InputError
from synthorax.io.images import read_image, write_image
from synthorax.io.mappings import read_mapping
from tests.helpers.toy_makers import Dots, LungFiller

LEFT, RIGHT = (-70.0, 2.0, 2.0), (70.0, -10.0, 20.0)


@pytest.fixture
def session(chest):
    return EditSession(chest)


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_session_of_one_injection_writes_the_bytes_of_inject(tmp_path, chest):
    write_image(tmp_path / "chest.nii.gz", chest)
    asked = {"at_mm": LEFT, "diameter_mm": 14, "seed": 5}
    session = EditSession(tmp_path / "chest.nii.gz")
    session.inject("render", **asked)
    session.write(tmp_path / "session")
    sx.inject(tmp_path / "chest.nii.gz", "render", **asked, out=tmp_path / "verb")
    assert files(tmp_path / "session") == files(tmp_path / "verb")


def test_a_second_injection_is_that_of_inject_into_the_first_ones_result(session, chest):
    session.inject("render", at_mm=LEFT, diameter_mm=14, seed=5)
    session.inject("render", at_mm=RIGHT, diameter_mm=18, seed=5)
    first = sx.inject(chest, "render", at_mm=LEFT, diameter_mm=14, seed=5)
    both = sx.inject(first.ct, "render", at_mm=RIGHT, diameter_mm=18, seed=5, labels=first.mask, lungs=session.lungs())
    assert (session.ct.voxels == both.ct.voxels).all()
    assert (session.mask.voxels == both.mask.voxels).all()
    assert [nodule.label for nodule in session.nodules] == [1, 2]
    assert (session.edited().region.voxels == (first.region.voxels | both.region.voxels)).all()


def test_a_session_of_one_erasure_writes_the_bytes_of_erase(tmp_path, chest):
    sx.inject(chest, Dots(), at_mm=(LEFT, RIGHT), diameter_mm=14, out=tmp_path / "in")
    session = EditSession(tmp_path / "in" / "scan.nii.gz")
    session.erase(LungFiller(), at_mm=LEFT, diameter_mm=16, seed=5)
    session.write(tmp_path / "session")
    sx.erase(tmp_path / "in" / "scan.nii.gz", LungFiller(), at_mm=LEFT, diameter_mm=16, seed=5, out=tmp_path / "verb")
    assert read_mapping(tmp_path / "verb" / "manifest.json")["nodules"]
    assert files(tmp_path / "session") == files(tmp_path / "verb")


def test_undo_and_redo_bring_every_voxel_back(session, chest):
    session.inject(Dots(), at_mm=LEFT, diameter_mm=14)
    once = session.ct.voxels.copy(), session.mask.voxels.copy()
    session.inject(Dots(), at_mm=RIGHT, diameter_mm=18)
    session.undo()
    assert (session.ct.voxels == once[0]).all()
    assert (session.mask.voxels == once[1]).all()
    assert len(session.nodules) == 1
    session.undo()
    assert (session.ct.voxels == chest.voxels).all()
    assert not session.mask.voxels.any()
    session.redo()
    assert (session.ct.voxels == once[0]).all()
    assert session.undone == 1


def test_an_edit_after_an_undo_forgets_what_was_taken_back(session):
    session.inject(Dots(), at_mm=LEFT, diameter_mm=14)
    session.undo()
    session.inject(Dots(), at_mm=RIGHT, diameter_mm=18)
    with pytest.raises(InputError, match="undo before it"):
        session.redo()


def test_an_erased_nodule_leaves_the_mask_and_the_table_and_comes_back(session):
    session.inject(Dots(), at_mm=(LEFT, RIGHT), diameter_mm=14)
    step = session.erase(LungFiller(), label=1)
    assert step.gone == ("01",)
    assert [nodule.label for nodule in session.nodules] == [2]
    assert np.unique(session.mask.voxels).tolist() == [0, 2]
    session.undo()
    assert np.unique(session.mask.voxels).tolist() == [0, 1, 2]


def test_an_erasure_at_a_place_takes_the_nodule_there_out_of_the_list(session):
    session.inject(Dots(), at_mm=(LEFT, RIGHT), diameter_mm=14)
    session.erase(LungFiller(), at_mm=RIGHT, diameter_mm=14)
    assert [nodule.label for nodule in session.nodules] == [1]


def test_a_refused_edit_leaves_the_session_as_it_was(session, chest):
    with pytest.raises(InputError, match="one in the lungs"):
        session.inject(Dots(), at_mm=(0.0, 0.0, 0.0), diameter_mm=14)
    with pytest.raises(InputError, match="label"):
        session.erase(LungFiller(), label=3)
    assert not session.steps
    assert (session.ct.voxels == chest.voxels).all()


def test_several_edits_are_written_with_what_each_was_asked_for(tmp_path, session):
    session.inject(Dots(), at_mm=(LEFT, RIGHT), diameter_mm=14, seed=3)
    session.erase(LungFiller(), label=1, seed=4)
    session.write(tmp_path / "out")
    manifest = read_mapping(tmp_path / "out" / "manifest.json")
    assert [(edit["edit"], edit["seed"]) for edit in manifest["request"]["edits"]] == [("inject", 3), ("erase", 4)]
    assert manifest["method"] == "dots, filler"
    assert [nodule["label"] for nodule in manifest["nodules"]] == [2]
    written = read_image(tmp_path / "out" / "scan.nii.gz")
    assert (written.voxels == session.ct.voxels).all()


def test_an_image_is_written_as_a_dicom_series_with_its_nodules(tmp_path, chest):
    x, y, z = chest.origin_mm
    direction = np.diag([1.0, -1.0, 1.0])
    turned = replace(chest, voxels=chest.voxels[:, ::-1].copy(), origin_mm=(x, -y, z), direction=direction)
    write_image(tmp_path / "lying.nii.gz", turned)
    session = EditSession(tmp_path / "lying.nii.gz")
    session.inject(Dots(), at_mm=LEFT, diameter_mm=14)
    session.write(tmp_path / "out", layout="dicom")
    series = sx.read_scan(tmp_path / "out" / "ct")
    where = np.argwhere(session.mask.voxels)
    there = np.rint(series.ct.to_voxel(session.ct.to_world(where))).astype(int)
    assert (series.ct.voxels[tuple(there.T)] == session.ct.voxels[tuple(where.T)]).all()
    assert series.patient_id == read_mapping(tmp_path / "out" / "manifest.json")["patient_id"]
    session.write(tmp_path / "images")
    assert series.patient_id == read_mapping(tmp_path / "images" / "manifest.json")["patient_id"]
    assert (tmp_path / "out" / "mask.dcm").is_file()
