"""Nodules erased from a scan.

The method is the user's or of another package; a method that cannot erase is refused.
"""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

import synthorax as sx
from synthorax.annotations.nodule_table import CENTER
from synthorax.api.edit_session import EditSession
from synthorax.cli import main
from synthorax.editing.erase import is_gone, notes_of_cuts, staying
from synthorax.errors import InputError
from synthorax.hub import who
from synthorax.io.dicom_out import write_ct_series
from synthorax.io.images import read_image, write_image
from synthorax.io.tables import read_table, write_table
from synthorax.makers import Filled, Lineage
from synthorax.nodule import place_text
from synthorax.region import Region, regions_of
from synthorax.registry import registry
from tests.helpers.balls import ball_mask
from tests.helpers.chests import small_chest
from tests.helpers.plugins import install

LUNG_HU = -860


class Eraser:
    """A method that fills a nodule's voxels, or the ball of its diameter, with lung."""

    name, lineage = "eraser", Lineage("eraser", "e" * 64)
    heeds, roles = frozenset({"diameter_mm"}), frozenset({"erases"})

    def __init__(self):
        self.masks = []

    def reach_mm(self, edit):
        return edit.nodule.diameter_mm, edit.nodule.diameter_mm / 2 + 8

    def fill_many(self, patches, regions, edits, seeds):
        return [self.fill(patch, edit) for patch, edit in zip(patches, edits, strict=True)]

    def fill(self, patch, edit):
        self.masks.append(edit.mask)
        ball = ball_mask(patch.shape, edit.nodule.diameter_mm + 2, patch.spacing_mm)
        gone = ball if edit.mask is None else edit.mask
        return Filled(np.where(gone, LUNG_HU, patch.voxels).astype(np.float32), None, edit.nodule)


@pytest.fixture(scope="module")
def ill():
    """Return a chest with two added nodules."""
    return sx.inject(small_chest(3), auto=2, diameter_mm=(12, 16), seed=2)


def test_a_nodule_is_taken_out_at_a_place_and_outside_the_region_no_voxel_differs(ill):
    nodule = ill.nodules[1]
    made = sx.erase(ill.ct, Eraser(), at_mm=nodule.center_mm, diameter_mm=16)
    ball, region = ill.mask.voxels == 2, made.region.voxels
    assert np.median(ill.ct.voxels[ball]) > -400
    assert np.median(made.ct.voxels[ball]) == LUNG_HU
    assert (made.ct.voxels == ill.ct.voxels)[~region].all()
    assert made.kind == "erase"
    assert not made.mask.voxels.any()


def test_a_place_has_the_number_of_its_nodule_and_none_if_the_scan_has_no_nodule_there(ill, tmp_path):
    write_image(tmp_path / "ill.nii.gz", ill.ct)
    write_image(tmp_path / "ill_mask.nii.gz", replace(ill.mask, voxels=np.where(ill.mask.voxels == 2, 2, 0)))
    row = {"image": "ill.nii.gz", "mask": "ill_mask.nii.gz", "mask_label": 2, "nodule_id": "02"}
    write_table(tmp_path / "nodules.csv", [row])
    both = [nodule.center_mm for nodule in ill.nodules]
    made = sx.erase(tmp_path / "ill.nii.gz", Eraser(), at_mm=both, diameter_mm=(12, 16))
    assert [(one.nodule_id, one.label) for one in made.nodules] == [("place 1", 0), ("01", 1)]
    assert made.gone == ("01",)
    session = EditSession(ill.ct, labels=ill.mask)
    assert session.erase(Eraser(), label=2).result.nodules[0].nodule_id == "02"
    assert session.erase(Eraser(), at_mm=both[0], diameter_mm=12).result.nodules[0].nodule_id == "01"


def test_every_nodule_of_a_mask_is_taken_out_and_the_method_sees_its_voxels(ill):
    method = Eraser()
    made = sx.erase(ill.ct, method, labels=ill.mask)
    assert [mask.sum() for mask in method.masks] == [(ill.mask.voxels == label).sum() for label in (1, 2)]
    assert (made.ct.voxels[ill.mask.voxels > 0] == LUNG_HU).all()
    assert [nodule.attributes.diameter_mm for nodule in made.nodules] == pytest.approx(
        [nodule.attributes.diameter_mm for nodule in ill.nodules]
    )


def test_what_is_left_of_a_nodule_is_told(ill, chest):
    class Idle(Eraser):
        def fill(self, patch, edit):
            return Filled(patch.voxels.astype(np.float32), None, edit.nodule)

    left = sx.erase(ill.ct, Idle(), labels=ill.mask)
    assert len(left.notes) == 2
    for number, note in zip(("01", "02"), left.notes, strict=True):
        said = r"it was edited, but can still be seen \(\d+ HU denser than the lung around it, \d+ HU before\)"
        assert re.fullmatch(f"nodule {number}: {said}, so its mask stays; try another seed or method", note)
    assert np.array_equal(left.mask.voxels, ill.mask.voxels)  # without its mask, a visible nodule would be a negative
    assert [nodule.extra["gone"] for nodule in left.nodules] == ["no", "no"]
    assert not left.gone
    by_place = sx.erase(ill.ct, Idle(), at_mm=ill.nodules[0].center_mm, diameter_mm=12)
    assert [nodule.extra["gone"] for nodule in by_place.nodules] == ["no"]
    assert not sx.erase(ill.ct, Eraser(), labels=ill.mask).notes

    place = (-70.0, 0.0, 0.0)
    wide = sx.inject(chest, at_mm=place, diameter_mm=30, seed=1, attributes=sx.NoduleAttributes(texture=5)).ct
    (note,) = sx.erase(wide, Eraser(), at_mm=place, diameter_mm=12).notes
    assert re.match(
        r"nodule at -70\.0, 0\.0, 0\.0 mm: \d+% of what lies around the erased ball of 12 mm was dense too; ", note
    )
    assert note.endswith("request a larger diameter, or give the nodule's mask")
    assert not sx.erase(wide, Eraser(), at_mm=place, diameter_mm=30).notes


def test_a_place_without_lung_around_it_is_refused_unless_it_is_forced(chest):
    place = (0.0, 0.0, 0.0)  # between the lungs
    with pytest.raises(
        InputError, match="with hardly any lung around it; expected the middle of a nodule in the lungs"
    ):
        sx.erase(chest, Eraser(), at_mm=place, diameter_mm=8)
    notes = sx.erase(chest, Eraser(), at_mm=place, diameter_mm=8, force=True).notes
    assert any("with hardly any lung around it" in note for note in notes)


def test_an_erased_scan_is_written_without_a_mask_and_is_no_scan_without_nodules(ill, tmp_path):
    write_image(tmp_path / "ill.nii.gz", ill.ct)
    write_ct_series(tmp_path / "series", ill.ct, mark=None)
    for source, files in (
        ("ill.nii.gz", {"ill.nii.gz", "ill_region.nii.gz", "before-after.png", "manifest.json"}),
        ("series", {"ct", "region.dcm", "before-after.png", "manifest.json"}),
    ):
        out = tmp_path / f"healed-{source}"
        made = sx.erase(tmp_path / source, Eraser(), at_mm=ill.nodules[0].center_mm, diameter_mm=12, out=out)
        assert {path.name for path in out.iterdir()} - {".synthorax"} == files
        assert len(json.loads((out / "manifest.json").read_text())["erased"]) == 1
        (case,) = sx.prepare("scans", out, tmp_path / "store" / source, workers=1).cases
        assert (case.annotated, case.nodules, bool(case.synthetic)) == ("none-known", (), True)
    assert (read_image(tmp_path / "healed-ill.nii.gz" / "ill.nii.gz").voxels == made.ct.voxels).all()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            {"at_mm": (0, 0, 0)},
            "^diameter_mm is missing; expected a diameter in mm for all places, or one for each",
        ),
        ({"at_mm": (0, 0, 9000), "diameter_mm": 8}, "expected one in the scan"),
        ({}, "nodules: found no nodule to erase; expected `at_mm` with `diameter_mm`, `labels`, or `plan`"),
        ({"at_mm": (0, 0, 0), "diameter_mm": 800}, "expected 1 to 100 mm"),
        ({"at_mm": (0, 0, 0), "diameter_mm": (8, 9)}, "diameter_mm: found 2 diameters; expected 1 for all, or 1, one"),
        ({"diameter_mm": 8}, "diameter_mm: found 1 diameter; expected a diameter only with a place, at_mm"),
    ],
)
def test_an_erasure_of_nothing_is_refused(ill, asked, said):
    with pytest.raises(InputError, match=said):
        sx.erase(ill.ct, Eraser(), **asked)


def test_a_place_without_a_nodule_is_refused_and_erased_only_by_force(ill):
    healthy = (256.0, 160.0, 40.0)
    with pytest.raises(
        InputError, match=r"where nothing of 10 mm is denser than the lung around it; expected .* `force`"
    ):
        sx.erase(ill.ct, Eraser(), at_mm=healthy, diameter_mm=10)
    made = sx.erase(ill.ct, Eraser(), at_mm=healthy, diameter_mm=10, force=True)
    assert "erased at (256.0, 160.0, 40.0) mm, where nothing" in made.notes[0]


def test_a_mask_of_another_grid_is_refused(ill):
    coarse = replace(ill.mask, spacing_mm=tuple(1.5 * s for s in ill.mask.spacing_mm))
    with pytest.raises(InputError, match="labels: found"):
        sx.erase(ill.ct, Eraser(), labels=coarse)


def test_a_nodule_on_the_wall_which_is_denser_than_its_shell_nowhere_is_taken_for_one(ill):
    middle, hu = ill.nodules[1].center_mm, ill.ct.voxels.copy()
    hu[:, :, round(ill.ct.to_voxel(middle)[2]) + 1 :] = 300
    assert sx.erase(replace(ill.ct, voxels=hu), Eraser(), at_mm=middle, diameter_mm=16).nodules


def test_without_a_method_the_bundled_eraser_heals(chest, tmp_path):
    """Of a rendered nodule in even lung, a tenth of the contrast is left at most."""
    place = (-70.0, 0.0, 0.0)
    ill = sx.inject(chest, at_mm=place, diameter_mm=16, seed=1)
    healed = sx.erase(ill.ct, at_mm=place, diameter_mm=16)
    nodule = ill.mask.voxels > 0
    left = np.abs(healed.ct.voxels[nodule] - chest.voxels[nodule].astype(float)).mean()
    assert left < 0.1 * np.abs(ill.ct.voxels[nodule] - chest.voxels[nodule].astype(float)).mean()
    write_image(tmp_path / "ill.nii.gz", ill.ct)
    words = ["erase", tmp_path / "ill.nii.gz", "--at=-70,0,0", "--diameter", 16, "--out", tmp_path / "healed"]
    assert main([str(word) for word in words]) == 0
    assert (sx.read_scan(tmp_path / "healed" / "ill.nii.gz").ct.voxels == healed.ct.voxels).all()


def test_rendering_does_not_erase_and_a_package_that_does_is_named_and_used(ill, tmp_path, monkeypatch, capsys):
    write_image(tmp_path / "ill.nii.gz", ill.ct)
    place = ",".join(map(str, ill.nodules[0].center_mm))
    command = ["erase", str(tmp_path / "ill.nii.gz"), "--at", place, "--diameter", "12", "--out", str(tmp_path / "new")]
    assert main([*command, "--with", "render"]) == 2
    said = f"synthorax: --with: found 'render'; expected one that erases: {who(('erases',))}; render is used by "
    assert capsys.readouterr().err.startswith(said)
    modules = {
        "entry": """
            from synthorax.registry import Entry
            HEALER = Entry("healer", "heals", frozenset({"erases"}), "", "Fills balls with lung.")
        """,
        "config": """
            from synthorax import makers

            class Options(makers.Options):
                '''Options of healing.

                Attributes:
                    hu: of the lung.
                '''

                hu: float = -860
        """,
        "maker": """
            import numpy as np
            from synthorax.makers import Filled, Lineage

            class Healer:
                name, lineage = "healer", Lineage("healer")
                heeds, roles = frozenset({"diameter_mm"}), frozenset({"erases"})

                def __init__(self, hu):
                    self.hu = hu

                def reach_mm(self, edit):
                    return edit.nodule.diameter_mm, edit.nodule.diameter_mm

                def fill_many(self, patches, regions, edits, seeds):
                    made = [np.full(p.shape, self.hu, np.float32) for p in patches]
                    return [Filled(hu, None, edit.nodule) for hu, edit in zip(made, edits)]

            def maker(options):
                return Healer(options.hu)
        """,
    }
    install(tmp_path / "site", "heals", modules, {"healer": "heals.entry:HEALER"})
    monkeypatch.syspath_prepend(tmp_path / "site")
    registry.cache_clear()
    try:
        assert main([*command, "--with", "render"]) == 2
        assert "healer" in capsys.readouterr().err
        assert main([*command, "--with", "healer", "--hu", "-700"]) == 0
        made = read_image(tmp_path / "new" / "ill.nii.gz")
        z, y, x = np.rint(made.to_voxel(ill.nodules[0].center_mm)).astype(int)
        assert made.voxels[z, y, x] == -700
    finally:
        monkeypatch.undo()
        registry.cache_clear()


def test_a_missing_diameter_is_named_by_its_flag(capsys):
    wide = "a diameter in mm for all nodules, or one for each, as in 6,8,12"
    these = ", of the nodules at these places"
    assert main(["erase", "scan.nii", "--at=-70,0,0", "--out", "out"]) == 2
    assert capsys.readouterr().err == f"synthorax: --diameter is missing; expected {wide}{these}\n"
    assert main(["inject", "scan.nii", "--at=-70,0,0", "--out", "out"]) == 2
    assert capsys.readouterr().err.startswith(f"synthorax: --diameter is missing; expected {wide}")


class Narrow(Eraser):
    """An eraser that takes nodules of up to 14 mm."""

    def reach_mm(self, edit):
        if edit.nodule.diameter_mm > 14:
            raise InputError("diameter", f"{edit.nodule.diameter_mm:.4g} mm", "at most 14 mm with narrow")
        return super().reach_mm(edit)


def test_all_nodules_that_are_too_wide_are_named_with_their_places(ill):
    voxels = np.zeros_like(ill.mask.voxels)
    for label, (row, half_mm) in enumerate([(15, 9), (35, 9), (55, 4)], start=1):
        half = [round(half_mm / mm) for mm in ill.mask.spacing_mm]
        box = tuple(slice(at - n, at + n) for at, n in zip((20, row, 30), half, strict=True))
        voxels[box] = label
    with pytest.raises(InputError) as refused:
        sx.erase(ill.ct, Narrow(), labels=replace(ill.mask, voxels=voxels))
    text = str(refused.value)
    assert re.search(
        r"; too wide are 01 \(\S+ mm, at [-.\d, ]+\), 02 \(\S+ mm, at [-.\d, ]+\); "
        "or `only_labels=3`, to erase the others$",
        text,
    )


def test_some_labels_of_a_mask_or_rows_of_a_table_are_taken_out_and_the_others_stay(ill, tmp_path):
    narrow, wide = sorted((1, 2), key=lambda label: ill.nodules[label - 1].attributes.diameter_mm)
    refusal = f"^nodule {wide:02d}, diameter: found .* mm, the width of its mask; expected at most 14 mm with narrow"
    with pytest.raises(InputError, match=f"{refusal}; or `only_labels={narrow}`, to erase the others$"):
        sx.erase(ill.ct, Narrow(), labels=ill.mask)
    with pytest.raises(InputError, match=r"expected at most 14 mm with narrow$"):
        sx.erase(ill.ct, Narrow(), labels=ill.mask, only_labels=[wide])
    made = sx.erase(ill.ct, Narrow(), labels=ill.mask, only_labels=[narrow])
    assert (made.ct.voxels[ill.mask.voxels == narrow] == LUNG_HU).all()
    assert (made.ct.voxels == ill.ct.voxels)[ill.mask.voxels == wide].all()
    assert made.about["only_labels"] == [narrow]
    assert [(nodule.nodule_id, nodule.label) for nodule in made.nodules] == [(f"{narrow:02d}", narrow)]
    assert made.gone == (f"{narrow:02d}",)
    assert not made.notes  # that the other one stays is what was asked for
    assert ((made.mask.voxels == wide) == (ill.mask.voxels == wide)).all()
    assert not (made.mask.voxels == narrow).any()
    rows = [dict(zip(CENTER, one.center_mm, strict=True)) | {"diameter_mm": 12} for one in ill.nodules]
    write_table(tmp_path / "plan.csv", rows)
    made = sx.erase(ill.ct, Narrow(), plan=tmp_path / "plan.csv", only_labels=[2])
    assert made.nodules[0].center_mm == pytest.approx(ill.nodules[1].center_mm)
    assert len(made.nodules) == 1
    assert made.notes[0].startswith(f"a nodule at {place_text(ill.nodules[0].center_mm)} mm stays in the scan, and")
    with pytest.raises(InputError, match="only_labels: found 3; expected nodules of this scan: 1,2"):
        sx.erase(ill.ct, Narrow(), labels=ill.mask, only_labels=[1, 3])
    for further in ({"plan": tmp_path / "plan.csv"}, {"at_mm": ill.nodules[0].center_mm, "diameter_mm": 12}):
        with pytest.raises(InputError, match="only_labels: found given for nodules that labels do not tell apart"):
            sx.erase(ill.ct, Narrow(), labels=ill.mask, only_labels=[1], **further)


def test_a_nodule_stays_if_at_most_half_of_its_voxels_may_have_changed_and_it_is_not_the_erased_one():
    voxels = np.zeros((4, 10, 10), np.uint8)
    voxels[1, 2, 0:8], voxels[1, 5, 0:8], voxels[1, 8, 0:8] = 1, 2, 3
    changed = np.zeros(voxels.shape, bool)
    changed[1, 2, 3:8], changed[1, 5, 4:8] = True, True
    lines = regions_of(voxels, (1, 2, 3))
    assert [own.voxels for own in staying(lines, changed)] == [0, 8, 8]
    erased = Region.of(voxels == 3)
    left = staying(lines, changed, [erased])
    assert [own.voxels for own in left] == [0, 8, 0]
    said = "nodule 02: its mask stays, since it may not be erased whole; 4 of its 8 voxels lie in the edit region"
    assert notes_of_cuts(left, changed) == [said]
    assert not notes_of_cuts(left, changed, told=[2])


@pytest.mark.parametrize(("asked_mm", "gone"), [(8, ()), (16, ("02",))])
def test_a_known_nodule_that_is_wider_than_the_diameter_requested_at_its_place_keeps_its_mask(
    ill, asked_mm, gone, tmp_path
):
    class Everywhere(Eraser):
        """An eraser that replaces all of its region."""

        def fill_many(self, patches, regions, edits, seeds):
            return [
                Filled(np.where(region, np.float32(LUNG_HU), patch.voxels), None, edit.nodule)
                for patch, region, edit in zip(patches, regions, edits, strict=True)
            ]

        def reach_mm(self, edit):
            return 15.0, 10.0

    at_mm = ill.nodules[1].center_mm
    write_image(tmp_path / "ill.nii.gz", ill.ct)
    write_image(tmp_path / "ill_mask.nii.gz", ill.mask)
    rows = [
        {"image": "ill.nii.gz", "mask": "ill_mask.nii.gz", "mask_label": one.label, "nodule_id": one.nodule_id}
        for one in ill.nodules
    ]
    write_table(tmp_path / "nodules.csv", rows)
    made = sx.erase(tmp_path / "ill.nii.gz", Everywhere(), at_mm=at_mm, diameter_mm=asked_mm)
    assert made.gone == gone
    assert [(one.nodule_id, one.label) for one in made.nodules] == [("02", 2)]  # by its place too
    wide = f"{ill.nodules[1].attributes.diameter_mm:.3g}"
    assert [is_gone(one) for one in made.nodules] == [bool(gone)]
    said = f"nodule 02: its mask is {wide} mm wide, and 8 mm were requested; so its mask stays"
    assert [*made.notes] == [said] * (not gone)


def test_the_verb_takes_out_the_nodules_of_some_labels(ill, tmp_path, capsys):
    write_image(tmp_path / "ill.nii.gz", ill.ct)
    write_image(tmp_path / "mask.nii.gz", ill.mask)
    command = ["erase", f"{tmp_path}/ill.nii.gz", "--nodules", f"{tmp_path}/mask.nii.gz", "--out", f"{tmp_path}/out"]
    for wrong in ("0", "1.5", "one"):
        assert main([*command, "--labels", wrong]) == 2
        assert f"--labels: found '{wrong}'; expected labels of the mask" in capsys.readouterr().err
    assert main([*command, "--labels", "2"]) == 0
    said = capsys.readouterr()
    assert "1 nodule removed" in said.out
    assert "mask and table of nodule 01, which stays" in said.out
    assert not said.err
    assert [row["mask_label"] for row in read_table(tmp_path / "out" / "nodules.csv")] == ["1"]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert len(manifest["erased"]) == 1
    assert manifest["request"]["only_labels"] == [2]
