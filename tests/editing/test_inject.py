"""Nodules added to a scan: what changes, what does not, what is refused, and the files that are written."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread

import synthorax as sx
from synthorax.anatomy.lungs import find_lungs
from synthorax.anatomy.morphology import distance_inside
from synthorax.anatomy.placement import Ball, Clearance
from synthorax.cli import main
from synthorax.datasets.phantoms import make_phantom, phantom_sources
from synthorax.datasets.store import Store
from synthorax.editing.inject import Wanted, inject_nodules
from synthorax.editing.plan import Request, nodule_balls, plan_nodules
from synthorax.errors import InputError
from synthorax.geometry import orient
from synthorax.io.dicom_out import write_ct_series
from synthorax.io.images import read_image, write_image
from synthorax.io.label_maps import read_label_map
from synthorax.io.masks import read_labels_on
from synthorax.io.scans import read_scan
from synthorax.io.tables import read_table
from synthorax.makers import Filled, Lineage
from synthorax.nodule import RATING_WORDS, NoduleAttributes, kind_in_words, rating_word
from synthorax.provenance import sha256
from synthorax.rendering.maker import shape_source
from synthorax.rendering.renderer import Renderer
from synthorax.rendering.shapes import LidcOutlines, OneShape
from synthorax.seeding import derive
from synthorax.shapes.diameter import axial_diameter_mm
from synthorax.volume import Volume
from tests.helpers.toy_makers import Dots

OFF_THE_BODY = (-160.0, -160.0, 0.0)
DENSE_HU = 500.0
SOLID = NoduleAttributes(texture=5.0, calcification=6.0, internal_structure=1.0)
OWNER = ".synthorax"
"""What marks a folder as one that may be replaced."""


class Bullet:
    """A minimal method: a dense ball of the requested diameter, and noise in the rest of the region."""

    name, lineage = "bullet", Lineage("bullet", "f" * 64)
    heeds, roles = frozenset({"diameter_mm", "texture"}), frozenset({"injects"})

    def __init__(self):
        self.calls = []

    def reach_mm(self, edit):
        return edit.nodule.diameter_mm + 9, edit.nodule.diameter_mm / 2 + 5

    def fill_many(self, patches, regions, edits, seeds):
        return [self.fill(*one) for one in zip(patches, regions, edits, seeds, strict=True)]

    def fill(self, patch, region, edit, seed):
        condition = edit.nodule
        self.calls.append((patch, region, condition, seed))
        offsets = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(patch.shape, patch.spacing_mm, strict=True)]
        z, y, x = np.ix_(*offsets)
        ball = z**2 + y**2 + x**2 <= (condition.diameter_mm / 2) ** 2
        noise = np.random.default_rng(seed).normal(0, 100, patch.shape)
        return Filled(np.where(ball, DENSE_HU, patch.voxels + noise).astype(np.float32), ball, condition)


@pytest.fixture(scope="module")
def phantom():
    """Return a coarse phantom without nodules."""
    return make_phantom(3, spacing_mm=(2.5, 2.0, 2.0), nodules=0)


@pytest.fixture(scope="module")
def ct(phantom):
    return phantom.ct


@pytest.fixture(scope="module")
def lungs(ct):
    return find_lungs(ct)


@pytest.fixture(scope="module")
def place(ct, lungs):
    """Return a place deep in a lung."""
    plan = plan_nodules(ct, Request((), 1, (12.0,)), 5, finder=lambda ct: lungs)
    return plan.wanted[0].place.center_mm


@pytest.fixture(scope="module")
def renderer():
    return Renderer(LidcOutlines())


# The promise of the region


@settings(max_examples=25)
@given(
    st.integers(0, 10**6),
    st.lists(st.floats(3, 28), min_size=1, max_size=3),
    st.sampled_from(["lung", "pleura"]),
    st.booleans(),
)
def test_outside_the_region_no_voxel_differs_and_every_nodule_lies_inside_it(
    ct, lungs, renderer, seed, diameters, site, bullets
):
    request = Request((), len(diameters), tuple(diameters), site=site)
    try:
        plan = plan_nodules(ct, request, seed, finder=lambda ct: lungs)
    except InputError:
        assert max(diameters) > 15  # only large ones find no place
        return
    made = inject_nodules(ct, plan.wanted, Bullet() if bullets else renderer, seed, lungs=lungs)
    region, mask = made.region.voxels, made.mask.voxels
    assert (made.ct.voxels == ct.voxels)[~region].all()
    assert made.ct.voxels.dtype == ct.voxels.dtype
    assert (made.ct.voxels != ct.voxels)[region].any()
    assert not (mask > 0)[~region].any()
    assert np.unique(mask).tolist() == [0, *[nodule.label for nodule in made.nodules]]
    for nodule in made.nodules:
        where = np.argwhere(mask == nodule.label)
        assert nodule.center_mm == pytest.approx(made.mask.to_world(where.mean(0)))
        assert nodule.attributes.diameter_mm == pytest.approx(axial_diameter_mm(where, ct.spacing_mm))


def test_the_scan_that_is_given_stays_as_it_is(ct, place):
    before = ct.voxels.copy()
    sx.inject(ct, at_mm=place, diameter_mm=10)
    assert (ct.voxels == before).all()


def test_the_same_seed_gives_the_same_scan_and_another_another(ct):
    one, same, other = (sx.inject(ct, auto=1, diameter_mm=9, seed=seed) for seed in (7, 7, 8))
    assert (one.ct.voxels == same.ct.voxels).all()
    assert one.nodules == same.nodules
    assert one.nodules[0].center_mm != other.nodules[0].center_mm


def test_scans_edited_with_one_seed_get_nodules_of_their_own(ct, place):
    other = replace(ct, voxels=ct.voxels + 1)
    one, two = (sx.inject(scan, at_mm=place, diameter_mm=12, seed=1) for scan in (ct, other))
    assert (one.mask.voxels != two.mask.voxels).any()


def test_a_nodule_does_not_depend_on_those_after_it(ct):
    one, two = sx.inject(ct, auto=1, diameter_mm=8, seed=4), sx.inject(ct, auto=2, diameter_mm=8, seed=4)
    assert two.nodules[0] == one.nodules[0]
    first = two.mask.voxels == 1
    assert (first == (one.mask.voxels == 1)).all()
    assert (two.ct.voxels == one.ct.voxels)[first].all()


@pytest.mark.parametrize("diameter", [6.0, 9.0, 12.0])
def test_a_nodule_is_about_as_wide_as_it_was_asked_to_be(ct, lungs, place, renderer, diameter):
    made = [inject_nodules(ct, [Wanted(Ball(place, diameter), SOLID)], renderer, s, lungs=lungs) for s in range(6)]
    widths = [one.nodules[0].attributes.diameter_mm for one in made]
    assert np.mean(widths) == pytest.approx(diameter, abs=max(ct.spacing_mm) / 2)


def test_a_nodule_is_as_dense_as_its_texture(ct, lungs, place, renderer):
    inside = {}
    for name, attributes in (("solid", SOLID), ("glass", replace(SOLID, texture=1.0))):
        made = inject_nodules(ct, [Wanted(Ball(place, 12.0), attributes)], renderer, 1, lungs=lungs)
        core = distance_inside(made.mask.voxels > 0, ct.spacing_mm) > 2
        inside[name] = np.median(made.ct.voxels[core])
    assert -80 < inside["solid"] < 120
    assert -800 < inside["glass"] < -400


def test_the_seam_is_not_to_be_seen(ct):
    """Across the border of the region neighbours differ no more than they did before."""
    made = sx.inject(ct, auto=6, diameter_mm=8, seed=2)
    region = made.region.voxels
    steps = {
        name: np.concatenate(
            [
                abs(np.diff(voxels.astype(int), axis=axis))[np.diff(region.astype(int), axis=axis) != 0]
                for axis in (0, 1, 2)
            ]
        )
        for name, voxels in (("before", ct.voxels), ("after", made.ct.voxels))
    }
    assert steps["after"].mean() < 1.05 * steps["before"].mean()
    assert np.percentile(steps["after"], 99) < 1.1 * np.percentile(steps["before"], 99)


# Methods


def test_a_method_of_ones_own_needs_two_functions(ct, place):
    bullet = Bullet()
    made = sx.inject(ct, bullet, at_mm=place, diameter_mm=10, seed=3, attributes=NoduleAttributes(texture=5.0))
    (patch, region, condition, _), *more = bullet.calls
    assert not more
    assert condition == NoduleAttributes(diameter_mm=10, texture=5.0)
    assert region.shape == patch.shape
    assert patch.to_world((np.array(patch.shape) - 1) / 2) == pytest.approx(place, abs=max(ct.spacing_mm))
    assert region.any()
    assert not region.all()
    assert made.nodules[0].extra["method"] == "bullet"
    core = made.ct.voxels[made.mask.voxels > 0]
    assert np.median(core) == DENSE_HU
    assert (made.ct.voxels == ct.voxels)[~made.region.voxels].all()


def test_what_a_method_does_outside_of_its_region_is_not_seen(ct, place):
    class Vandal(Bullet):
        def fill(self, patch, region, edit, seed):
            return Filled(np.full(patch.shape, 3000, np.float32), np.ones(patch.shape, bool), edit.nodule)

    made = sx.inject(ct, Vandal(), at_mm=place, diameter_mm=10)
    assert (made.ct.voxels == ct.voxels)[~made.region.voxels].all()
    assert not (made.mask.voxels > 0)[~made.region.voxels].any()


def test_methods_are_known_by_name(ct):
    known = "ac-wgan, class-aware, flow, injector, render; or a run folder"
    with pytest.raises(InputError, match=f"'magic'; expected one that injects: {known}"):
        sx.inject(ct, "magic", auto=1, diameter_mm=8)


def test_a_shape_of_ones_own_is_used(ct, place, ball):
    """A long box stays a long box, whatever its own spacing."""
    box = np.zeros((12, 30, 30), bool)
    box[4:8, 12:18, 4:26] = True
    shape = Volume(box, (1.0, 1.0, 1.0))
    made = sx.inject(ct, at_mm=place, diameter_mm=22, shapes=shape, seed=1, force=True)
    where = np.argwhere(made.mask.voxels > 0) * ct.spacing_mm
    lengths = np.sqrt(np.linalg.eigvalsh(np.cov(where.T)))
    assert lengths[2] > 2.2 * lengths[0]
    assert isinstance(OneShape(shape), OneShape)
    assert not made.lineage.tells  # the patient of the mask is not known, so nobody can exclude a leak


@pytest.mark.parametrize("second", [1, 2], ids=["pieces", "labels"])
def test_a_mask_of_several_nodules_gives_the_shape_of_one_of_them(second):
    labels = np.zeros((8, 30, 30), np.uint8)
    labels[2:6, 2:6, 2:6], labels[2:6, 20:28, 20:28] = 1, second
    source = shape_source(Volume(labels, (1.0, 1.0, 1.0)))
    drawn = [source(NoduleAttributes(diameter_mm=8), seed) for seed in range(20)]
    assert {int(shape.mask.voxels.sum()) for shape in drawn} == {64, 256}
    said = "2 pieces more than 5 mm apart" if second == 1 else "its 2 labels"
    assert said in drawn[0].notes[0]
    assert "each new nodule has the shape of one of them" in drawn[0].notes[0]
    assert not source.lineage.tells


# Places


def test_a_nodule_comes_where_it_was_asked_for(ct, place):
    made = sx.inject(ct, at_mm=place, diameter_mm=12)
    assert made.nodules[0].center_mm == pytest.approx(place, abs=3)
    assert made.notes == ()


def test_places_outside_of_the_lungs_are_refused_with_the_reason(ct, phantom):
    with pytest.raises(InputError, match=r"expected one in the lungs; `auto` finds places, `force` takes this one$"):
        sx.inject(ct, at_mm=OFF_THE_BODY, diameter_mm=8)
    far = (0.0, 0.0, 5000.0)
    for force in (False, True):
        with pytest.raises(InputError, match="expected one in the scan"):
            sx.inject(ct, at_mm=far, diameter_mm=8, force=force)


def test_force_goes_on_and_says_so(ct):
    made = sx.inject(ct, at_mm=OFF_THE_BODY, diameter_mm=8, force=True)
    assert len(made.notes) == 1
    assert "lung" in made.notes[0]
    assert made.mask.voxels.any()


def test_overlapping_nodules_are_refused(ct, place):
    near = tuple(np.add(place, (3, 0, 0)))
    with pytest.raises(InputError, match="nodule"):
        sx.inject(ct, at_mm=[place, near], diameter_mm=10)
    made = sx.inject(ct, at_mm=[place, near], diameter_mm=10, force=True)
    assert len(made.notes) >= 1


def test_a_nodule_that_fits_nowhere_is_refused(ct):
    with pytest.raises(InputError, match="95 mm"):
        sx.inject(ct, auto=1, diameter_mm=95)


@pytest.mark.parametrize("diameter", [0, -3, 101, float("nan"), float("inf")])
def test_a_diameter_that_no_nodule_has_is_refused(ct, diameter):
    with pytest.raises(InputError, match="expected 1 to 100 mm"):
        sx.inject(ct, auto=1, diameter_mm=diameter)


def test_as_many_diameters_as_nodules(ct):
    with pytest.raises(InputError, match="diameter_mm: found 3 diameters; expected 1 for all, or 2, one for each"):
        sx.inject(ct, auto=2, diameter_mm=(4, 5, 6))
    with pytest.raises(InputError, match=r"^diameter_mm is missing; expected a diameter in mm for all nodules"):
        sx.inject(ct, auto=2)
    made = sx.inject(ct, auto=2, diameter_mm=(6, 14), seed=1)
    small, large = (nodule.attributes.diameter_mm for nodule in made.nodules)
    assert small < 10 < large


def test_a_scan_without_lungs_is_refused_and_forced_only_at_a_given_place():
    block = Volume(np.pad(np.full((40, 40, 40), 40, np.int16), 2, constant_values=-1000), (2.0, 2.0, 2.0))
    with pytest.raises(InputError, match="no lung"):
        sx.inject(block, at_mm=(40, 40, 40), diameter_mm=8)
    made = sx.inject(block, at_mm=(40, 40, 40), diameter_mm=8, force=True)
    assert "no lung" in made.notes[0]
    with pytest.raises(InputError, match="no lung"):
        sx.inject(block, auto=1, diameter_mm=8, force=True)


def test_labels_that_are_there_stay_and_are_kept_clear_of(ct):
    first = sx.inject(ct, auto=2, diameter_mm=10, seed=1)
    second = sx.inject(first.ct, auto=2, diameter_mm=10, seed=2, labels=first.mask)
    assert [nodule.label for nodule in second.nodules] == [3, 4]
    for label in (1, 2):
        assert ((second.mask.voxels == label) == (first.mask.voxels == label)).all()
    gaps = [
        np.linalg.norm(np.subtract(a.center_mm, b.center_mm)) - (a.diameter_mm + b.diameter_mm) / 2
        for a in nodule_balls(first.mask)
        for b in nodule_balls(replace(second.mask, voxels=np.where(second.mask.voxels > 2, second.mask.voxels, 0)))
    ]
    assert min(gaps) > 2
    with pytest.raises(InputError, match="nodule"):
        sx.inject(first.ct, at_mm=first.nodules[0].center_mm, diameter_mm=8, labels=first.mask)


def test_no_more_nodules_than_labels(ct, lungs, place, renderer):
    full = replace(ct, voxels=np.full(ct.shape, 255, np.uint8))
    with pytest.raises(InputError, match="at most 255"):
        inject_nodules(ct, [Wanted(Ball(place, 8.0))], renderer, 0, lungs=lungs, labels=full)


def test_clearance_is_kept(ct, lungs):
    request = Request((), 4, (6.0,), clearance=Clearance(wall_mm=12.0, vessel_mm=None, nodule_mm=30.0))
    places = [wanted.place for wanted in plan_nodules(ct, request, 3, finder=lambda ct: lungs).wanted]
    for i, one in enumerate(places):
        for other in places[:i]:
            assert np.linalg.norm(np.subtract(one.center_mm, other.center_mm)) >= 36


# Files


@pytest.fixture(scope="module")
def nifti(ct, tmp_path_factory):
    path = tmp_path_factory.mktemp("scan") / "chest.nii.gz"
    write_image(path, ct)
    return path


def test_nifti_comes_back_as_nifti_with_everything_beside_it(nifti, ct, tmp_path, capsys):
    command = ["inject", str(nifti), "--auto", "2", "--diameter", "8,12", "--seed", "7", "--out", str(tmp_path / "new")]
    assert main(command) == 0
    out = tmp_path / "new"
    names = {"chest.nii.gz", "chest_mask.nii.gz", "chest_region.nii.gz", "nodules.csv", "manifest.json"}
    assert {path.name for path in out.iterdir()} - {OWNER} == names | {"before-after.png"}
    made, mask, region = (read_image(out / name) for name in sorted(names) if name.endswith(".gz"))
    assert np.allclose(made.affine, ct.affine, atol=1e-4)
    assert (made.voxels == ct.voxels)[region.voxels == 0].all()
    assert np.unique(mask.voxels).tolist() == [0, 1, 2]
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["method"] == "render"
    assert manifest["seed"] == 7
    assert [nodule["label"] for nodule in manifest["nodules"]] == [1, 2]
    assert manifest["region_voxels"] == (region.voxels > 0).sum()
    capsys.readouterr()
    assert main(["verify", str(out)]) == 0
    assert "synthetic" in capsys.readouterr().out


def test_the_command_and_the_function_make_the_same(nifti, ct, tmp_path):
    arguments = ["--auto", "1", "--diameter", "9", "--texture", "ground-glass", "--seed", "3"]
    assert main(["inject", str(nifti), *arguments, "--out", str(tmp_path / "new")]) == 0
    made = sx.inject(nifti, auto=1, diameter_mm=9, attributes=NoduleAttributes(texture=1.0), seed=3)
    assert (read_image(tmp_path / "new" / "chest.nii.gz").voxels == made.ct.voxels).all()


def test_places_in_millimetres_and_in_voxels_are_the_same(nifti, ct, place, tmp_path, capsys):
    """LPS millimetres as LUNA16 has them, negative ones too; or i, j, k along the image's own axes."""
    k, j, i = np.rint(ct.to_voxel(place)).astype(int).tolist()
    x, y, z = ct.to_world((k, j, i)).tolist()
    for name, where in (("mm", ["--at", f"{x},{y},{z}"]), ("voxels", ["--voxel", f"{i},{j},{k}"])):
        assert main(["inject", str(nifti), *where, "--diameter", "9", "--out", str(tmp_path / name), "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == rows[1]
    assert rows[0][0]["center_mm"] == pytest.approx((x, y, z), abs=3)


def test_what_is_made_can_be_prepared(nifti, tmp_path):
    assert main(["inject", str(nifti), "--auto", "2", "--diameter", "9", "--out", str(tmp_path / "new")]) == 0
    assert main(["prepare", "patches", str(tmp_path / "new"), "--out", str(tmp_path / "store")]) == 0
    (case,) = Store(tmp_path / "store").cases
    assert len(case.nodules) == 2
    assert case.synthetic
    assert all(nodule.label for nodule in case.nodules)
    assert all(nodule.extra["shape_origin"].startswith("LIDC-IDRI-") for nodule in case.nodules)


def test_dicom_comes_back_as_dicom_with_segmentations(ct, tmp_path, capsys):
    write_ct_series(tmp_path / "dicom", ct, mark=None)
    out = tmp_path / "new"
    command = ["inject", str(tmp_path / "dicom"), "--auto", "2", "--diameter", "9", "--seed", "7", "--out", str(out)]
    assert main(command) == 0
    assert {path.name for path in out.iterdir()} - {OWNER} == {
        "ct",
        "mask.dcm",
        "region.dcm",
        "nodules.csv",
        "before-after.png",
        "manifest.json",
    }
    before, after = read_scan(tmp_path / "dicom"), read_scan(out / "ct")
    region = read_labels_on(out / "region.dcm", after.ct).voxels
    mask = read_labels_on(out / "mask.dcm", after.ct).voxels
    assert (before.ct.voxels == after.ct.voxels)[region == 0].all()
    assert (before.ct.voxels != after.ct.voxels)[region > 0].any()
    assert np.unique(mask).tolist() == [0, 1, 2]
    assert not (mask > 0)[region == 0].any()
    header = dcmread(next((out / "ct").iterdir()), stop_before_pixels=True)
    assert header.SyntheticData == "YES"
    assert header.PatientID != dcmread(next((tmp_path / "dicom").iterdir())).PatientID
    capsys.readouterr()
    assert main(["verify", str(out)]) == 0
    made = sx.inject(out / "ct", auto=1, diameter_mm=7, labels=out / "mask.dcm")
    assert made.nodules[0].label == 3
    assert main(["prepare", "scans", str(out), "--out", str(tmp_path / "store")]) == 0
    (case,) = Store(tmp_path / "store").cases
    assert len(case.nodules) == 2


def test_identity_is_kept_only_if_asked_for(ct, tmp_path):
    write_ct_series(tmp_path / "dicom", ct, mark=None)
    whose = dcmread(next((tmp_path / "dicom").iterdir())).PatientID
    sx.inject(tmp_path / "dicom", auto=1, diameter_mm=9, out=tmp_path / "new", keep_identity=True)
    assert dcmread(next((tmp_path / "new" / "ct").iterdir())).PatientID == whose


def test_values_that_are_no_hu_are_refused_and_forced(ct, place, tmp_path):
    shifted = replace(ct, voxels=((ct.voxels + 1024).clip(0) * 16).astype(np.uint16))
    write_image(tmp_path / "raw.nii.gz", shifted)
    command = ["inject", str(tmp_path / "raw.nii.gz"), "--at", ",".join(map(str, place)), "--diameter", "9"]
    assert main([*command, "--out", str(tmp_path / "new")]) == 2
    assert not (tmp_path / "new").exists()
    assert main([*command, "--out", str(tmp_path / "new"), "--force"]) == 0


# Phantom patients


def test_a_phantom_has_the_nodules_that_its_truth_tells_of():
    made = make_phantom(11, spacing_mm=(3.0, 3.0, 3.0), nodules=4)
    assert len(made.nodules) >= 1
    assert np.unique(made.mask.voxels).tolist() == [0, *range(1, len(made.nodules) + 1)]
    lung = made.chest.lobes > 0
    for nodule in made.nodules:
        inside = made.mask.voxels == nodule.label
        assert (lung & inside).sum() > 0.5 * inside.sum()
        assert made.ct.voxels[inside].mean() > made.ct.voxels[lung].mean() + 60


def test_a_phantom_is_a_function_of_its_seed_and_number():
    few = phantom_sources(10, 5, spacing_mm=(6.0, 6.0, 6.0))
    assert [(s.case_id, s.split) for s in few] == [
        (s.case_id, s.split) for s in phantom_sources(10, 5, spacing_mm=(6.0, 6.0, 6.0))
    ]
    one, same = few[4].read(), few[4].read()
    assert (one.ct.voxels == same.ct.voxels).all()
    assert one.nodules == same.nodules
    assert (few[5].read().ct.voxels != one.ct.voxels).any()


def test_phantoms_of_two_seeds_are_other_patients():
    plain, other = phantom_sources(10, 0), phantom_sources(10, 9)
    assert [source.case_id for source in plain][:2] == ["phantom-0000", "phantom-0001"]
    assert [source.case_id for source in other][:2] == ["phantom-s9-0000", "phantom-s9-0001"]


def test_a_store_of_phantoms_goes_on_where_it_stopped_and_keeps_shapes_apart(tmp_path, monkeypatch):
    monkeypatch.setattr("synthorax.datasets.phantoms.FIELD_MM", 300.0)
    request = {"scans": 3, "spacing_mm": (6.0, 6.0, 6.0), "nodules": 3.0, "seed": 1, "workers": 1}
    store = sx.prepare_phantom(tmp_path / "one", **request)
    assert [len(store.in_split(split)) for split in ("train", "val", "test")] != [0, 0, 0]
    assert all(case.synthetic for case in store.cases)
    (tmp_path / "one" / "zarr.json").unlink()
    assert sx.prepare_phantom(tmp_path / "one", **request).fingerprint == store.fingerprint
    with pytest.raises(InputError, match="seed"):
        sx.prepare_phantom(tmp_path / "one", **request | {"seed": 3})
    sources = {source.split: source for source in phantom_sources(40, 2)}
    patients = {split: set(source.patients()) for split, source in sources.items()}
    assert not patients["train"] & patients["test"]
    assert not patients["train"] & patients["val"]
    assert min(map(len, patients.values())) > 50


# What users' scans are like


@pytest.mark.parametrize("axes", ["RAS", "PIR", "LIP", "ASL"])
def test_a_scan_gets_the_same_nodules_whichever_way_its_voxels_lie(ct, axes):
    made = sx.inject(ct, auto=2, diameter_mm=10, seed=5)
    turned = sx.inject(orient(ct, axes), auto=2, diameter_mm=10, seed=5)
    assert turned.ct.voxels.shape == orient(ct, axes).shape
    assert (orient(turned.ct, "LPS").voxels == made.ct.voxels).all()
    assert (orient(turned.mask, "LPS").voxels == made.mask.voxels).all()
    for one, other in zip(turned.nodules, made.nodules, strict=True):
        assert one.center_mm == pytest.approx(other.center_mm)


def test_fractions_of_hu_stay_outside_the_region(ct, place, tmp_path):
    fine = replace(ct, voxels=(ct.voxels + 0.3).astype(np.float32))
    write_image(tmp_path / "fine.nii.gz", fine)
    for scan in (fine, tmp_path / "fine.nii.gz"):
        made = sx.inject(scan, at_mm=place, diameter_mm=10)
        assert made.ct.voxels.dtype == np.float32
        assert (made.ct.voxels == fine.voxels)[~made.region.voxels].all()


def test_what_the_scanner_did_not_see_stays_blank(ct, place):
    voxels = ct.voxels.astype(np.float32)
    voxels[:, :4] = np.nan
    made = sx.inject(replace(ct, voxels=voxels), at_mm=place, diameter_mm=10)
    assert np.isnan(made.ct.voxels[:, :4]).all()
    assert np.isfinite(made.ct.voxels[:, 4:]).all()
    assert np.array_equal(made.ct.voxels[~made.region.voxels], voxels[~made.region.voxels], equal_nan=True)


def test_the_diameter_is_in_millimetres_where_pixels_are_not_square():
    row, column = np.zeros((1, 21, 21), bool), np.zeros((1, 21, 21), bool)
    row[0, 10, 5:15] = True
    column[0, 5:15, 10] = True
    spacing = (2.5, 0.5, 1.5)
    assert axial_diameter_mm(np.argwhere(row), spacing) == pytest.approx(15)
    assert axial_diameter_mm(np.argwhere(column), spacing) == pytest.approx(5)


def test_pleural_nodules_are_at_the_pleura_and_others_are_not(ct, lungs):
    for diameter in (6.0, 12.0):
        gaps = {}
        for site in ("pleura", "lung"):
            request = Request((), 8, (diameter,), site=site)
            plan = plan_nodules(ct, request, 4, finder=lambda ct: lungs)
            made = inject_nodules(ct, plan.wanted, Renderer(LidcOutlines()), 4, lungs=lungs)
            to_wall = distance_inside(lungs.on(ct).mask.voxels, ct.spacing_mm)
            gaps[site] = [to_wall[made.mask.voxels == nodule.label].min() for nodule in made.nodules]
        assert np.median(gaps["pleura"]) <= max(ct.spacing_mm)
        assert min(gaps["lung"]) > 0


def test_nodules_asked_for_in_one_place_keep_all_their_voxels(ct, place):
    near = tuple(np.add(place, (4, 0, 0)))
    made = sx.inject(ct, at_mm=[place, near], diameter_mm=(8, 12), force=True)
    for nodule, region in zip(made.nodules, made.regions, strict=True):
        where = region.indices()
        assert nodule.center_mm == pytest.approx(made.mask.to_world(where.mean(0)))
        assert (made.mask.voxels[tuple(where.T)] > 0).all()
    assert [made.hidden(nodule.label) for nodule in made.nodules] == [False, True]  # the smaller lies on top


def test_labels_are_checked_however_they_come(ct):
    first = sx.inject(ct, auto=1, diameter_mm=10, seed=1)
    as_bool = replace(first.mask, voxels=first.mask.voxels > 0)
    made = sx.inject(first.ct, auto=1, diameter_mm=8, seed=2, labels=as_bool)
    assert made.mask.voxels.dtype == np.uint8
    assert made.nodules[0].label == 2
    for bad in (replace(first.mask, voxels=first.mask.voxels * 1.5), Volume(np.zeros((5, 5, 5), np.uint8), (1, 1, 1))):
        with pytest.raises(InputError, match="labels"):
            sx.inject(first.ct, auto=1, diameter_mm=8, labels=bad)


def test_what_is_told_of_a_nodule_is_what_was_made(ct, place):
    """Malignancy and lobulation are the shape's, not the wish; what rendering makes is as it was asked for."""
    wish = NoduleAttributes(texture=1.0, margin=2.0, malignancy=5.0, lobulation=5.0)
    drawn = LidcOutlines()(replace(wish, diameter_mm=10.0), derive(derive(3, "nodule", 0), "shape"))
    (nodule,) = sx.inject(ct, at_mm=place, diameter_mm=10, attributes=wish, seed=3).nodules
    assert (nodule.attributes.texture, nodule.attributes.margin) == (1.0, 2.0)
    assert nodule.attributes.malignancy == drawn.attributes.malignancy
    assert nodule.attributes.subtlety is None
    ball = Volume(np.pad(np.ones((6, 6, 6), bool), 2), (1.0, 1.0, 1.0))
    with pytest.raises(InputError, match="lobulation"):
        sx.inject(ct, at_mm=place, diameter_mm=10, attributes=NoduleAttributes(lobulation=5), shapes=ball)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"site": "pleurae"}, "site"),
        ({"lungs": "foo"}, "lungs"),
        ({"auto": 300}, "at most|1 to 255"),
        ({"auto": -1}, "auto: found -1"),
        ({"at_mm": (1, 2)}, "place"),
        ({"attributes": NoduleAttributes(texture=99)}, "texture"),
        ({"attributes": NoduleAttributes(spiculation=float("nan"))}, "spiculation"),
        ({"patients": ["nobody"]}, "nobody"),
        ({"clearance": (float("nan"), 0, 0)}, "clearance"),
    ],
)
def test_arguments_that_mean_nothing_are_told_of(ct, options, said):
    with pytest.raises(InputError, match=said):
        if "clearance" in options:
            options["clearance"] = Clearance(*options["clearance"])
        sx.inject(ct, **{"auto": 1, "diameter_mm": 8} | options)


def test_the_manifest_tells_how_to_make_it_again_and_the_table_of_all_nodules(nifti, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    sx.inject(nifti, auto=2, diameter_mm=9, seed=3, out=first)
    sx.inject(first / "chest.nii.gz", auto=1, diameter_mm=6, seed=4, labels=first / "chest_mask.nii.gz", out=second)
    manifest = json.loads((second / "manifest.json").read_text())
    assert manifest["source"] == {"name": "chest.nii.gz", "sha256": sha256(first / "chest.nii.gz")}
    assert manifest["request"]["edits"][-1]["auto"] == 1
    assert manifest["request"]["edits"][-1]["diameters_mm"] == [6.0]
    assert [nodule["label"] for nodule in manifest["nodules"]] == [1, 2, 3]
    sx.prepare("patches", second, tmp_path / "store", workers=1)
    assert len(Store(tmp_path / "store").cases[0].nodules) == 3


TEXTS = {"nodules.csv": ("diameter_mm\n8\n", "text"), "a.xml": ("<?xml version='1.0'?><a/>", "an XML file")}
TEXTS |= {"a.json": ('{"a": 1}', "text that looks like JSON")}


@pytest.mark.parametrize("file", TEXTS)
def test_a_flag_that_takes_a_mask_says_so_of_a_table(file, chest, tmp_path, capsys):
    content, kind = TEXTS[file]
    (table := tmp_path / file).write_text(content)
    write_image(tmp_path / "chest.nii.gz", chest)
    scan, out = f"{tmp_path}/chest.nii.gz", f"{tmp_path}/out"
    mask = f"{table}: found {kind}; expected a mask image: NIfTI, MHA, MHD, NRRD, DICOM SEG or RTSTRUCT"
    for command in (
        ["inject", scan, "--auto", "1", "--diameter", "8", "--nodules"],
        ["inject", scan, "--with", "flow", "--outlines"],
        ["erase", scan, "--nodules"],
    ):
        assert main([*command, str(table), "--out", out]) == 2
        assert capsys.readouterr().err == f"synthorax: {mask}; a table of nodules goes to --plan\n"
    assert main(["inject", scan, "--auto", "1", "--diameter", "8", "--shapes", str(table), "--out", out]) == 2
    said = f"{table}: found {kind}; expected a mask image, or a model that makes shapes"
    assert capsys.readouterr().err == f"synthorax: {said}\n"
    with pytest.raises(InputError, match=re.escape(mask)):
        read_labels_on(table, chest)
    with pytest.raises(InputError, match=f"found {kind}; expected a label map: NIfTI"):
        read_label_map(table)


@pytest.mark.parametrize("verb", ["inject", "erase"])
@pytest.mark.parametrize(("flag", "example"), [("--at", "X,Y,Z in mm, such as --at=-70,0,-150"), ("--voxel", "I,J,K")])
def test_a_malformed_place_is_refused_with_an_example(verb, flag, example, tmp_path, capsys):
    assert main([verb, "scan.nii", f"{flag}=-70,0", "--diameter", "8", "--out", f"{tmp_path}/out"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"synthorax: {flag}: found '-70,0'; expected {example}")
    assert f"such as {flag}=" in said


def test_the_verb_prints_the_kind_of_each_nodule_made(chest, tmp_path, capsys):
    write_image(tmp_path / "chest.nii.gz", chest)
    (tmp_path / "plan.csv").write_text("diameter_mm,texture\n14,ground-glass\n16,part-solid\n18,solid\n")
    command = ["inject", f"{tmp_path}/chest.nii.gz", "--plan", f"{tmp_path}/plan.csv", "--out", f"{tmp_path}/out"]
    assert main(command) == 0
    said = capsys.readouterr().out.splitlines()[:3]
    for line, word, row in zip(
        said, RATING_WORDS["texture"], read_table(tmp_path / "out" / "nodules.csv"), strict=True
    ):
        malignancy = (
            f"malignancy {float(row['malignancy']):.2g} of 5"  # the texture is requested, this is the outline's
        )
        assert re.fullmatch(rf"nodule \d+: [\d.]+ mm at [-\d.,]+ mm, {word}, {malignancy}", line)


def test_the_word_of_a_texture_is_the_nearest():
    words = [rating_word("texture", value) for value in (1, 2, 2.1, 3, 4, 4.1, 5)]
    assert words == ["ground-glass"] * 2 + ["part-solid"] * 3 + ["solid"] * 2
    assert kind_in_words(NoduleAttributes(malignancy=3.67)) == "malignancy 3.7 of 5"
    assert kind_in_words(NoduleAttributes(diameter_mm=8)) == ""


def test_a_diameter_among_the_attributes_counts_and_is_not_given_twice(chest):
    nine = NoduleAttributes(diameter_mm=9.0)
    made = sx.inject(chest, Dots(), at_mm=(-70.0, 0.0, 0.0), attributes=nine)
    assert made.nodules[0].extra["wanted_diameter_mm"] in ("9", "9.0", 9.0)
    with pytest.raises(InputError, match="diameter_mm: found a value in `attributes` and another by name"):
        sx.inject(chest, Dots(), at_mm=(-70.0, 0.0, 0.0), attributes=nine, diameter_mm=6)
