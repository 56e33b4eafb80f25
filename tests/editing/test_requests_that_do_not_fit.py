"""Requests that do not fit into a scan, or only in part: what is refused, what is noted, and what is done instead."""

import re
from dataclasses import replace

import numpy as np
import pytest

import synthorax as sx
from synthorax.cli import main
from synthorax.editing.inject import _diameter_notes, _shape_notes
from synthorax.editing.plan import AskedNodule, Request
from synthorax.editing.window import cut
from synthorax.errors import InputError
from synthorax.io.dicom_out import write_ct_series
from synthorax.io.images import write_image
from tests.helpers.chests import small_chest


def test_more_nodules_than_have_room_are_told_as_such(chest):
    with pytest.raises(InputError) as caught:
        sx.inject(chest, auto=250, diameter_mm=20)
    assert "nodules: found no room for another one of 20 mm" in str(caught.value)
    assert re.search(r", beside \d+ in the lungs; expected fewer or smaller nodules", str(caught.value))
    with pytest.raises(InputError, match=r"diameter: found 90 mm; expected at most \d+\.?\d* mm"):
        sx.inject(chest, auto=1, diameter_mm=90)


def test_nodules_are_drawn_again_if_none_of_those_drawn_fits(chest, monkeypatch):
    draws = []

    def drawn(self, seed, draw=0):
        draws.append(draw)
        return (AskedNodule(90.0 if draw < 2 else 8.0, is_drawn=True),)

    monkeypatch.setattr(Request, "nodules", drawn)
    made = sx.inject(chest, auto="lidc", seed=1)
    assert [round(nodule.attributes.diameter_mm) for nodule in made.nodules] == [8]
    assert max(draws) == 2
    assert sum("none of these drawn nodules fits, so others were drawn" in note for note in made.notes) == 2
    monkeypatch.setattr(Request, "nodules", lambda self, seed, draw=0: (AskedNodule(90.0, is_drawn=True),))
    with pytest.raises(InputError, match="auto: found 8 draws of nodules, none of which fits"):
        sx.inject(chest, auto="lidc", seed=1)


def test_a_place_that_is_in_the_lungs_as_ras_is_told(chest):
    x, y, z = chest.origin_mm
    beside = replace(chest, origin_mm=(x + 100, y, z))
    with pytest.raises(InputError, match=r"\(70\.0, 0\.0, 0\.0\) mm is: places are LPS, those of 3D Slicer are RAS"):
        sx.inject(beside, at_mm=(-70, 0, 0), diameter_mm=8)
    with pytest.raises(InputError) as caught:
        sx.inject(chest, at_mm=(0, 0, 0), diameter_mm=8)
    assert "RAS" not in str(caught.value)


def test_a_voxel_beyond_the_image_is_told_in_voxels_with_the_order_that_would_fit(chest, tmp_path, capsys):
    write_image(tmp_path / "chest.nii.gz", chest)  # 96 x 64 x 60 voxels
    arguments = ["inject", f"{tmp_path}/chest.nii.gz", "--diameter", "8", "--out", f"{tmp_path}/out"]
    assert main([*arguments, "--voxel", "30,32,80"]) == 2
    said = capsys.readouterr().err
    assert "--voxel: found 30,32,80; expected I,J,K below 96,64,60, counted from 0" in said
    assert said.rstrip().endswith("your numbers fit in the order K,J,I")
    assert main([*arguments, "--voxel", "300,32,80"]) == 2
    assert "K,J,I" not in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_mass_is_noted(chest):
    (note,) = [one for one in sx.inject(chest, at_mm=(-70, 0, 0), diameter_mm=40).notes if "mass" in one]
    assert note == "nodule 01: wider than 30 mm, from which on radiologists call it a mass"
    assert not [one for one in sx.inject(chest, at_mm=(-70, 0, 0), diameter_mm=20).notes if "mass" in one]


def test_a_mask_in_pieces_is_noted():
    mask = np.zeros((9, 9, 9), bool)
    mask[1:3], mask[5:7] = True, True
    (note,) = _shape_notes("nodule 01", mask, 8.0)
    assert note.startswith("nodule 01: its mask is in 2 pieces")
    mask[3:5] = True
    mask[8, 8, 8] = True  # a single voxel is no piece
    assert not _shape_notes("nodule 01", mask, 8.0)


def test_an_image_beside_the_slices_of_a_series_is_named(tmp_path, capsys):
    write_ct_series(tmp_path / "mine", small_chest(3), mark=None)
    write_image(tmp_path / "mine" / "other.nii.gz", small_chest(4))
    write_image(tmp_path / "mine" / "lung_mask.nii.gz", small_chest(4))
    said = "other.nii.gz beside the DICOM slices left out; to edit it too, move it to another folder"
    assert said in sx.inject(tmp_path / "mine", auto=1, diameter_mm=12, seed=2).notes
    arguments = ["--auto", "1", "--diameter", "12", "--seed", "2", "--out", f"{tmp_path}/out"]
    assert main(["inject", f"{tmp_path}/mine", *arguments]) == 0
    assert said in " ".join(capsys.readouterr().err.split())
    assert said in (tmp_path / "out" / "manifest.json").read_text()


def test_the_reason_of_a_small_nodule_is_the_makers_region_if_that_is_too_small():
    window = cut(small_chest(3), (0.0, 0.0, 0.0), (12.0, 4.5))
    (note,) = _diameter_notes("nodule 01", 6.0, 8.0, window, 4.5, "ringer")
    assert "ringer changes only a ball with a radius of 4.5 mm, of which 5 mm are needed" in note
