"""Added nodules have the requested width on any voxels, are visible or noted as invisible, and `prepare` finds them."""

import csv
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from highdicom.seg import segread

import synthorax as sx
from synthorax.cli import main
from synthorax.datasets.store import Store
from synthorax.editing.inject import _why_hidden
from synthorax.editing.visibility import contrast
from synthorax.errors import InputError
from synthorax.geometry import crop, mirrored_crop
from synthorax.io.dicom_out import write_ct_series
from synthorax.io.images import write_image
from synthorax.io.scans import read_scan
from synthorax.makers import Filled
from synthorax.metrics.contrast import Contrast
from synthorax.provenance import synthetic_patient
from synthorax.region import Region
from synthorax.rendering.renderer import fitted, outlined
from synthorax.rendering.solid import solid_of_mask
from synthorax.scanner import Scanner, measure_scanner
from synthorax.shapes.diameter import axial_diameter_mm
from synthorax.volume import Volume
from tests.helpers.toy_makers import Dots

LUNG_HU = -850
PLACE, OTHER = (-70.0, 0.0, 0.0), (70.0, 0.0, 0.0)
"""The middles of the lungs of the `chest` fixture."""


@pytest.fixture(scope="module")
def slab(chest):
    """Return a part of the chest, 60 mm deep, in voxels of 4 mm."""
    return crop(chest, (22, 0, 0), (15, *chest.shape[1:]))


def ball_of(diameter_mm):
    step = diameter_mm / 24
    axis = (np.arange(32) - 15.5) * step
    return Volume(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2 <= (diameter_mm / 2) ** 2, (step, step, step))


@pytest.mark.parametrize(
    ("spacing_mm", "diameter_mm"),
    [((1.6, 1.6, 1.6), 4), ((5.0, 0.7, 0.7), 4), ((5.0, 0.7, 0.7), 6), ((10.0, 1.0, 1.0), 6), ((2.5, 2.0, 2.0), 6)],
)
def test_a_small_nodule_on_coarse_voxels_has_the_diameter_asked_for(spacing_mm, diameter_mm):
    patch = Volume(np.full((9, 31, 31), LUNG_HU, np.float32), spacing_mm)
    solid = fitted(solid_of_mask(ball_of(diameter_mm), diameter_mm), patch, diameter_mm)
    found = axial_diameter_mm(np.argwhere(outlined(solid, patch)), spacing_mm)
    assert found == pytest.approx(diameter_mm, rel=0.15)


def test_a_diameter_that_the_voxels_do_not_have_is_told(slab):
    made = sx.inject(slab, at_mm=PLACE, diameter_mm=6, seed=1)
    assert made.nodules[0].attributes.diameter_mm in (4.0, 8.0)
    assert made.notes[0].startswith("nodule 01: requested 6 mm; made ")
    assert made.notes[0].endswith(" mm: voxels are 4 x 4 x 4 mm (z, y, x)")
    assert not sx.inject(slab, at_mm=PLACE, diameter_mm=16, seed=1).notes


class Rods(Dots):
    """Injects rods along x, one voxel thick, of the requested length."""

    def _fill(self, patch, region, edit):
        z, y, x = (n // 2 for n in patch.shape)
        half = int(edit.diameter_mm / 2 / patch.spacing_mm[2])
        rod = np.zeros(patch.shape, bool)
        rod[z, y, x - half : x + half + 1] = True
        return Filled(np.where(rod & region, np.float32(0), patch.voxels), rod & region, edit.nodule)


def test_a_nodule_that_the_wall_of_the_lung_cuts_is_told_so(chest):
    z, y, x = np.rint(chest.to_voxel(PLACE)).astype(int)
    wall = int(np.flatnonzero(chest.voxels[z, y, x:] > LUNG_HU / 2)[0]) + x
    made = sx.inject(chest, Rods(), at_mm=chest.to_world((z, y, wall - 1)).tolist(), diameter_mm=28)
    assert made.nodules[0].attributes.diameter_mm < 20
    assert re.fullmatch(
        r"nodule 01: requested 28 mm; made 1\d\.\d mm: only \d\d% of a ball of 28 mm at this place is lung; "
        "request another place",
        made.notes[0],
    )
    elsewhere = sx.inject(chest, Rods(), at_mm=PLACE, diameter_mm=28)
    assert not any("requested" in note for note in elsewhere.notes)


def noisy(noise_hu, nodule_hu):
    """Return lung with a nodule of 6 mm at its centre, and the nodule."""
    z, y, x = np.ix_(*[np.arange(41) - 20] * 3)
    nodule = z**2 + y**2 + x**2 <= 3**2
    hu = LUNG_HU + np.random.default_rng(0).normal(0, noise_hu, nodule.shape) + nodule_hu * nodule
    return Volume(hu.astype(np.float32), (1.0, 1.0, 1.0)), Region.of(nodule)


@pytest.mark.parametrize(("nodule_hu", "visible"), [(800, True), (30, True), (2, False), (-40, False)])
def test_a_nodule_is_visible_from_two_deviations_of_the_noise_over_its_voxels_on(nodule_hu, visible):
    """A ball of 6 mm has 123 voxels of 1 mm: noise of 25 HU makes 2 * 25 / sqrt(123) = 4.5 HU."""
    seen = contrast(*noisy(25, nodule_hu), 6.0)
    assert seen.hu == pytest.approx(nodule_hu, abs=6)
    assert seen.visible is visible


def test_a_nodule_that_cannot_be_seen_is_labelled_with_a_word(slab):
    heart = (0.0, 0.0, 0.0)
    made = sx.inject(slab, at_mm=[PLACE, heart], diameter_mm=12, seed=1, force=True)
    assert [nodule.extra["visible"] for nodule in made.nodules] == ["yes", "no"]
    assert [note for note in made.notes if note.startswith("nodule 02: not visible")]
    assert made.regions[1].voxels > 0


def test_the_screen_marks_a_nodule_that_cannot_be_seen(slab, tmp_path, capsys):
    write_image(tmp_path / "scan.nii.gz", slab)
    places = [f"--at={','.join(map(str, place))}" for place in (PLACE, (0.0, 0.0, 0.0))]
    more = ["--diameter", "12", "--force", "--out", f"{tmp_path}/out"]
    assert main(["inject", f"{tmp_path}/scan.nii.gz", "--with", "render", *places, *more]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("nodule ")]
    assert [line.endswith(", not visible") for line in lines] == [False, True]


def test_the_note_on_a_nodule_that_changes_little_blames_the_tissue_only_if_it_is_dense():
    seen = Contrast(400.0, 60.0)
    assert "because the tissue at its place is about as dense" in _why_hidden(seen, 20.0, -50.0)
    faint = "changes the scan by 20.0 HU only: the method made a faint nodule in tissue of -900 HU; try another seed"
    assert faint in _why_hidden(seen, 20.0, -900.0)
    assert not _why_hidden(seen, 300.0, -900.0)


def test_the_note_on_a_nodule_in_denser_tissue_asks_for_another_place():
    why = _why_hidden(Contrast(-131.0, 1.1), 800.0, 40.0)
    assert why == "it is 131.0 HU darker than the tissue around it; request another place, in lung"


def test_the_note_on_a_hidden_nodule_says_below_which_contrast_noise_hides_it():
    why = _why_hidden(contrast(*noisy(25, 2), 6.0), 800.0, -900.0)
    found = re.fullmatch(
        r"it is (\S+) HU (denser|darker) than the tissue around it; "
        r"the noise of the scan hides what is less than (\S+) HU denser; (.*)",
        why,
    )
    assert found[2] == "darker" or float(found[1]) < float(found[3])
    assert found[4] == "request a larger or denser nodule, or another place"


def test_a_place_in_a_vessel_is_refused_and_if_forced_the_nodule_is_not_visible(chest):
    """A vessel as wide as a great one: the lungs' segmentation closes over it, and rendering changes no voxel in it."""
    hu = chest.voxels.copy()
    _, y, x = np.moveaxis(chest.to_world(np.stack(np.indices(chest.shape), -1)), -1, 0)[::-1]
    hu[(x + 70) ** 2 + y**2 <= 14**2] = 1000
    vessel = replace(chest, voxels=hu)
    with pytest.raises(InputError, match=r"0% of a nodule of 8 mm would lie in aerated lung; expected one where at"):
        sx.inject(vessel, at_mm=PLACE, diameter_mm=8, seed=1)
    made = sx.inject(vessel, at_mm=PLACE, diameter_mm=8, seed=1, force=True)
    assert [nodule.extra["visible"] for nodule in made.nodules] == ["no"]
    assert [note for note in made.notes if "would lie in aerated lung" in note]
    assert [note for note in made.notes if note.startswith("nodule 01: not visible: it changes the scan by ")]


def test_where_the_scan_ends_its_scanner_is_measured_as_anywhere():
    """Beyond the scan its mirror image goes on; air there would be the sharpest edge of all."""
    random = np.random.default_rng(3)
    tissue = np.where(random.random((16, 60, 60)) > 0.5, 40.0, LUNG_HU).repeat(3, 0).repeat(1, 1)
    blurred = Scanner(blur_mm=(1.5, 1.5)).blurred(tissue[:48], (1.0, 1.0, 1.0))
    ct = Volume((blurred + random.normal(0, 5, blurred.shape)).astype(np.float32), (1.0, 1.0, 1.0))
    inside = measure_scanner(ct).blur_mm[0]
    assert measure_scanner(mirrored_crop(ct, (-24, 0, 0), (72, 60, 60))).blur_mm[0] == pytest.approx(inside, rel=0.1)
    part = mirrored_crop(ct, (-2, 1, -50), (52, 4, 120))
    assert part.shape == (52, 4, 120)
    assert part.voxels[0].tolist() == part.voxels[4].tolist()
    assert part.to_voxel(ct.to_world((0, 1, 0))).tolist() == [2, 0, 50]


# Folders


def rows(folder):
    with open(folder / "nodules.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def series(slab, tmp_path_factory):
    """The slab as the DICOM series of a patient."""
    folder = tmp_path_factory.mktemp("series") / "ct"
    write_ct_series(folder, slab, mark=None)
    return folder


def test_injected_dicom_is_prepared_with_voxels_and_ratings(series, tmp_path):
    out = tmp_path / "out"
    made = sx.inject(series, at_mm=[PLACE, OTHER], diameter_mm=(12, 16), seed=1, out=out)
    found = [(row["mask"], row["mask_label"]) for row in rows(out)]
    assert found == [("mask.dcm", "1"), ("mask.dcm", "2")]
    sx.prepare("patches", out, tmp_path / "store", split=(1, 0, 0), workers=1)
    (case,) = Store(tmp_path / "store").cases
    assert [nodule.label for nodule in case.nodules] == [1, 2]
    for before, after in zip(made.nodules, case.nodules, strict=True):
        assert after.attributes.texture == before.attributes.texture
    voxels = Store(tmp_path / "store").read(case.case_id).regions
    assert [region.voxels for region in voxels] == [region.voxels for region in made.regions]


def test_every_injection_of_a_patient_is_that_patients(series, slab, tmp_path):
    image = tmp_path / "patient-7.nii.gz"
    write_image(image, slab)
    for source, patient in ((series, synthetic_patient(read_scan(series).patient_id)), (image, "patient-7")):
        patient = synthetic_patient(patient)
        for seed in (1, 2):
            out = tmp_path / f"{source.name}-{seed}"
            sx.inject(source, at_mm=PLACE, diameter_mm=12, seed=seed, out=out)
            assert {row["patient_id"] for row in rows(out)} == {patient}
            assert json.loads((out / "manifest.json").read_text())["patient_id"] == patient
    again = tmp_path / "patient-7.nii.gz-1" / "patient-7.nii.gz"
    sx.inject(again, at_mm=OTHER, diameter_mm=12, seed=3, out=tmp_path / "again")
    assert {row["patient_id"] for row in rows(tmp_path / "again")} == {synthetic_patient("patient-7")}
    assert len({path.name for path in tmp_path.glob("patient-7.nii.gz-*")}) == 2


def test_nodules_that_overlap_keep_their_voxels_in_files(series, slab, tmp_path):
    image = tmp_path / "chest.nii.gz"
    write_image(image, slab)
    asked = {"at_mm": [PLACE, tuple(np.add(PLACE, (4, 0, 0)))], "diameter_mm": (20, 16), "seed": 2, "force": True}
    made = sx.inject(image, **asked, out=tmp_path / "images")
    sizes = [region.voxels for region in made.regions]
    assert made.hidden(1)
    assert [row["mask"] for row in rows(tmp_path / "images")] == ["chest_mask_01.nii.gz", "chest_mask.nii.gz"]
    sx.prepare("patches", tmp_path / "images", tmp_path / "store", split=(1, 0, 0), workers=1)
    store = Store(tmp_path / "store")
    assert [region.voxels for region in store.read(store.cases[0].case_id).regions] == sizes
    sx.inject(series, **asked, out=tmp_path / "dicom")
    segments = segread(tmp_path / "dicom" / "mask.dcm").get_volume(combine_segments=False).array
    assert segments.sum((0, 1, 2)).tolist() == sizes


def test_regions_lie_on_the_axes_of_the_scan(slab):
    from synthorax.geometry import orient

    turned = orient(slab, "RAI")
    made = sx.inject(turned, at_mm=PLACE, diameter_mm=16, seed=1)
    painted = made.regions[0].within((0, 0, 0), turned.shape)
    assert (painted == (made.mask.voxels == 1)).all()
    assert replace(turned, voxels=painted).to_world(np.argwhere(painted).mean(0)) == pytest.approx(
        made.nodules[0].center_mm
    )


# What hardly fits


def test_a_nodule_smaller_than_the_parts_of_a_voxel_has_the_voxel_that_it_lies_in(slab):
    made = sx.inject(slab, at_mm=PLACE, diameter_mm=1, seed=3)
    assert made.regions[0].voxels == 1
    assert made.notes[0].startswith("nodule 01: requested 1 mm; made 4.0 mm")


def test_a_place_out_of_this_world_is_told_in_a_few_digits(slab):
    with pytest.raises(
        InputError, match=r"place: found \(1e\+308, 0\.0, 0\.0\) mm; expected one in the scan"
    ) as refused:
        sx.inject(slab, at_mm=(1e308, 0, 0), diameter_mm=6)
    assert len(str(refused.value)) < 200
