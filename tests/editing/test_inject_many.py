"""Nodules requested by a table, by LIDC's distribution, and of several methods at the same sites."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

import synthorax as sx
from synthorax.annotations.lidc_draws import draw_lidc_diameters
from synthorax.annotations.nodule_table import read_nodule_table
from synthorax.cli import main
from synthorax.editing.learned import Learned
from synthorax.editing.plan import AskedNodule, Request
from synthorax.editing.plan_table import read_plan
from synthorax.errors import InputError
from synthorax.io.images import read_image, write_image
from synthorax.io.tables import read_table, write_table
from synthorax.makers import Filled, Lineage
from synthorax.nodule import RATING_WORDS, NoduleAttributes
from synthorax.patch import PatchSpec
from synthorax.provenance import patient_key
from tests.helpers.balls import ball_mask
from tests.helpers.chests import small_chest

LEFT, RIGHT = (64.0, 160.0, 117.0), (256.0, 160.0, 117.0)
"""Middles of the lungs, (x, y, z) in mm."""


class Ball:
    """A method that adds a ball of a given density, of at most `most_mm`."""

    roles = frozenset({"injects"})

    def __init__(self, name="ball", hu=100.0, most_mm=1000.0, seen=()):
        self.name, self.hu, self.most_mm = name, hu, most_mm
        self.lineage = Lineage(name, name[:1] * 64, frozenset(map(patient_key, seen)))
        self.heeds = frozenset({"diameter_mm", "texture"})

    def reach_mm(self, edit):
        if edit.nodule.diameter_mm > self.most_mm:
            raise InputError(
                "diameter", f"{edit.nodule.diameter_mm:g} mm", f"at most {self.most_mm:g} mm with {self.name}"
            )
        return edit.nodule.diameter_mm, edit.nodule.diameter_mm / 2 + 4

    def fill_many(self, patches, regions, edits, seeds):
        made = []
        for patch, edit in zip(patches, edits, strict=True):
            ball = ball_mask(patch.shape, edit.nodule.diameter_mm, patch.spacing_mm)
            made.append(Filled(np.where(ball, self.hu, patch.voxels).astype(np.float32), ball, edit.nodule))
        return made


@pytest.fixture(scope="module")
def chest():
    return small_chest(3)


@pytest.fixture
def scans(chest, tmp_path):
    """A folder of two scans."""
    for name in ("ann", "bob"):
        (tmp_path / "scans" / name).mkdir(parents=True)
        write_image(tmp_path / "scans" / name / "ct.nii.gz", chest)
    return tmp_path / "scans"


def planned(file, *rows):
    """Write a table of nodules; each row has an image, a diameter, and possibly a place and a method."""
    columns = ("image", "center_x_mm", "center_y_mm", "center_z_mm", "diameter_mm", "method")
    write_table(file, [dict(zip(columns, row, strict=True)) for row in rows])
    return file


def test_a_plan_says_where_what_and_by_which_method(tmp_path):
    write_table(
        tmp_path / "plan.csv",
        [
            {"image": "a", "center_x_mm": 1, "center_y_mm": 2, "center_z_mm": 3, "diameter_mm": 8, "texture": 2},
            {"image": "b", "center_x_mm": "", "center_y_mm": "", "center_z_mm": "", "diameter_mm": 5, "texture": ""},
        ],
    )
    assert read_plan(tmp_path / "plan.csv") == {
        "a": (AskedNodule(8, NoduleAttributes(texture=2), (1, 2, 3)),),
        "b": (AskedNodule(5),),
    }


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"image": "a", "size": 8}, "an unknown column 'size'; expected columns of a plan"),
        ({"image": "a", "texture": 8}, "no column diameter_mm"),
        ({"diameter_mm": "wide"}, "line 2: diameter_mm 'wide'"),
        ({"diameter_mm": 8, "center_x_mm": 4}, "line 2: a centre of 1 numbers"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_by_its_line(row, said, tmp_path):
    write_table(tmp_path / "plan.csv", [row])
    with pytest.raises(InputError, match=said):
        read_plan(tmp_path / "plan.csv")


def test_the_nodules_of_a_plan_lie_at_its_places_and_are_made_by_its_methods(chest, tmp_path, monkeypatch):
    dense, soft = Ball("dense", 300.0, seen=["one"]), Ball("soft", -300.0, seen=["two"])
    for module in ("editing", "edit_requests"):
        monkeypatch.setattr(
            f"synthorax.api.{module}.method_of", lambda name, *_: {"dense": dense, "soft": soft}[str(name)]
        )
    plan = planned(tmp_path / "plan.csv", ("", *LEFT, 20, "soft"), ("", *RIGHT, 16, ""), ("", "", "", "", 12, "soft"))
    monkeypatch.setattr("synthorax.api.editing.recorded_options", lambda *_: {})
    made = sx.inject(chest, "dense", plan=plan)
    assert [nodule.extra["method"] for nodule in made.nodules] == ["soft", "dense", "soft"]
    assert [made.ct.voxels[made.mask.voxels == label].max() for label in (1, 2, 3)] == [-300, 300, -300]
    assert made.nodules[0].center_mm == pytest.approx(LEFT, abs=3)
    assert made.nodules[1].center_mm == pytest.approx(RIGHT, abs=3)
    assert made.lineage.name == "soft, dense"
    assert made.lineage.seen == {patient_key("one"), patient_key("two")}


def test_nodules_of_a_plan_keep_the_order_of_its_rows_also_those_without_a_place(chest, tmp_path):
    plan = planned(tmp_path / "plan.csv", ("", "", "", "", 12, ""), ("", *LEFT, 20, ""))
    made = sx.inject(chest, Ball(), plan=plan)
    assert [nodule.extra["wanted_diameter_mm"] for nodule in made.nodules] == ["12", "20"]
    assert made.nodules[1].center_mm == pytest.approx(LEFT, abs=3)


def test_a_diameter_that_the_method_cannot_make_is_told_before_one_that_fits_nowhere(chest, tmp_path):
    narrow = Ball("narrow", most_mm=24)
    with pytest.raises(InputError, match="found 90 mm; expected at most 24 mm with narrow"):
        sx.inject(chest, narrow, auto=1, diameter_mm=90)
    plan = planned(tmp_path / "plan.csv", ("", *LEFT, 20, ""), ("", "", "", "", 90, ""))
    with pytest.raises(InputError, match=r"line 3, diameter: found 90 mm; expected at most 24 mm with narrow"):
        sx.inject(chest, narrow, plan=plan)


def test_a_plan_of_a_folder_names_scans_by_their_paths_and_leaves_the_others_out(scans, tmp_path):
    plan = planned(tmp_path / "plan.csv", ("bob/ct.nii.gz", *LEFT, 20, ""), ("bob/ct.nii.gz", *RIGHT, 12, ""))
    made = sx.inject_folder(scans, tmp_path / "out", Ball(), plan=plan, workers=1)
    assert made.cases == ("bob_ct",)
    assert made.nodules == 2
    assert "left out: 1 of the scans, which have no row in plan.csv" in made.notes
    other = planned(tmp_path / "other.csv", ("eve/ct.nii.gz", *LEFT, 20, ""))
    with pytest.raises(
        InputError, match=r"eve/ct\.nii\.gz, which is not a scan of the folder; expected scans such as ann/ct"
    ):
        sx.inject_folder(scans, tmp_path / "none", Ball(), plan=other, workers=1)
    assert not (tmp_path / "none").exists()


def test_draws_have_the_number_and_the_sizes_of_lidcs_nodules():
    """Of the positive scans of LIDC-IDRI a third have one nodule; a quarter of nodules are below 5.3 mm."""
    drawn = [draw_lidc_diameters(seed) for seed in range(60)]
    assert draw_lidc_diameters(7) == drawn[7]
    assert 2 < np.mean([len(one) for one in drawn]) < 4
    assert 0.15 < np.mean([len(one) == 1 for one in drawn]) < 0.55
    assert 6 < np.median(np.concatenate(drawn)) < 10


def test_as_lidc_has_them_each_scan_gets_its_own_and_what_fits_nowhere_is_left_out_and_told(
    scans, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        "synthorax.editing.plan.draw_lidc_diameters", lambda seed: (14.0, 12.0, 90.0, 31.0)[: 2 + seed % 3]
    )
    made = sx.inject_folder(scans, tmp_path / "out", Ball(most_mm=30), auto="lidc", workers=1, seed=2)
    rows = [row for row in read_table(made.out / "nodules.csv") if row["image"].startswith("ann")]
    assert [row["wanted_diameter_mm"] for row in rows] == ["14", "12"]
    with pytest.raises(InputError, match="auto: found 'few'; expected a number of nodules, or lidc"):
        Request((), "few", ())
    with pytest.raises(InputError, match="since diameters are drawn with lidc"):
        Request((), "lidc", (8.0,))


def test_a_drawn_nodule_that_the_method_cannot_make_is_a_note(chest, monkeypatch):
    monkeypatch.setattr("synthorax.editing.plan.draw_lidc_diameters", lambda seed: (31.0, 14.0))
    made = sx.inject(chest, Ball(most_mm=30), auto="lidc")
    assert len(made.nodules) == 1
    assert "a nodule of 31.0 mm, drawn from LIDC-IDRI, is left out: diameter: found 31 mm" in made.notes[0]


@pytest.mark.parametrize("name", sorted(RATING_WORDS))
def test_a_table_takes_the_words_of_the_ratings_that_the_flags_take(name, tmp_path):
    words = RATING_WORDS[name]
    table = tmp_path / "plan.csv"
    table.write_text(f"diameter_mm,{name}\n" + "".join(f"8,{word}\n" for word in [*words, "2"]))
    (planned,) = read_plan(table).values()
    assert [getattr(one.attributes, name) for one in planned] == [*words.values(), 2.0]
    table.write_text(f"diameter_mm,{name}\n8,1\n8,glassy\n")
    with pytest.raises(InputError) as told:
        read_plan(table)
    said = f"{table}: found line 3: {name} 'glassy', not {', '.join(words)}, or "
    assert str(told.value).startswith(said)
    nodules = tmp_path / "nodules.csv"
    nodules.write_text(f"image,mask,{name}\nct.nii.gz,m.nii.gz,{next(iter(words))}\n")
    (image,) = read_nodule_table(nodules)
    assert getattr(image.nodules[0].attributes, name) == next(iter(words.values()))
    nodules.write_text(f"image,mask,{name}\nct.nii.gz,m.nii.gz,glassy\n")
    with pytest.raises(InputError, match=f"line 2: {name} 'glassy', neither {', '.join(words)} nor numbers from 1"):
        read_nodule_table(nodules)


def test_several_methods_fill_the_same_sites_in_folders_of_their_own_under_one_table(chest, tmp_path):
    dense, soft = Ball("dense", 300.0, seen=["one"]), Ball("soft", -300.0)
    out = tmp_path / "out"
    write_image(tmp_path / "chest.nii.gz", chest)
    made = sx.inject_each(tmp_path / "chest.nii.gz", [dense, soft], auto=2, diameter_mm=(12, 18), seed=5, out=out)
    assert [nodule.center_mm for nodule in made["dense"].nodules] == [
        nodule.center_mm for nodule in made["soft"].nodules
    ]
    assert (made["dense"].mask.voxels == made["soft"].mask.voxels).all()
    alone = sx.inject(chest, soft, auto=2, diameter_mm=(12, 18), seed=5)
    assert (read_image(out / "soft" / "chest.nii.gz").voxels == alone.ct.voxels).all()
    rows = read_table(out / "nodules.csv")
    assert [(row["image"], row["method"]) for row in rows] == [
        (f"{name}/chest.nii.gz", name) for name in ("dense", "dense", "soft", "soft")
    ]
    manifest = json.loads((out / "manifest.json").read_text())
    assert [one["method"] for one in manifest["methods"]] == ["dense", "soft"]
    assert Lineage.from_row(manifest["lineage"]).seen == {patient_key("one")}
    assert (out / "side-by-side.png").stat().st_size > 5000
    store = sx.prepare("patches", out, tmp_path / "store", workers=1)
    assert sorted(len(case.nodules) for case in store.cases) == [2, 2]
    assert len({case.patient_id for case in store.cases}) == 1
    with pytest.raises(InputError, match="methods: found 1; expected two or more"):
        sx.inject_each(chest, [dense], auto=1, diameter_mm=12)


def test_several_methods_over_a_folder_make_a_case_of_each_scan(scans, tmp_path):
    made = sx.inject_folder(
        scans, tmp_path / "out", [Ball("dense"), Ball("soft", -300)], auto=1, diameter_mm=14, workers=1
    )
    assert made.cases == ("ann_ct", "bob_ct")
    assert made.nodules == 4
    assert (made.out / "ann_ct" / "soft" / "ct.nii.gz").exists()
    assert {row["image"] for row in read_table(made.out / "nodules.csv")} == {
        f"{scan}_ct/{name}/ct.nii.gz" for scan in ("ann", "bob") for name in ("dense", "soft")
    }


def test_the_verb_takes_several_methods_with_the_flags_that_they_share_and_a_plan(chest, tmp_path, capsys):
    write_image(tmp_path / "chest.nii.gz", chest)
    shutil.copytree(tmp_path, tmp_path / "work", ignore=shutil.ignore_patterns("work"))
    command = ["inject", str(tmp_path / "chest.nii.gz"), "--out", str(tmp_path / "out")]
    both = ["--with", "render,render", "--shapes", "lidc", "--auto", "1", "--diameter", "16"]
    assert main([*command, *both]) == 0
    assert {"render", "render-2", "nodules.csv"} <= {path.name for path in (tmp_path / "out").iterdir()}
    capsys.readouterr()
    plan = planned(tmp_path / "plan.csv", ("", *LEFT, 20, "render"))
    assert main([*command[:-1], str(tmp_path / "planned"), "--plan", str(plan)]) == 0
    assert main([*command[:-1], str(tmp_path / "none"), "--plan", str(plan), "--auto", "2"]) == 2
    assert "--auto: found given with --plan plan.csv" in capsys.readouterr().err


def as_outlined(hu, region, edit, seed):
    """What an in-painter makes that puts 0 HU into its outline."""
    return np.where(edit.mask, 0.0, hu).astype(np.float32), edit.mask


def test_outlines_become_nodules_of_exactly_their_voxels(chest, tmp_path):
    labels = np.zeros(chest.shape, np.uint8)
    for label, place in enumerate((LEFT, RIGHT), 1):
        z, y, x = np.rint(chest.to_voxel(place)).astype(int)
        labels[z - 1 : z + 1, y - label : y + 2, x - 2 : x + 3] = label
    write_image(tmp_path / "outlines.nii.gz", replace(chest, voxels=labels))
    method = Learned(
        as_outlined,
        PatchSpec((32, 32, 32), (2.0, 2.0, 2.0)),
        name="outlined",
        lineage=Lineage("outlined"),
        heeds=frozenset({"texture"}),
        roles=frozenset({"injects"}),
        keeps_noise=True,
        outline=lambda region, edit, seed: edit.mask,
    )
    made = sx.inject(chest, method, outlines=tmp_path / "outlines.nii.gz", attributes=NoduleAttributes(texture=2.0))
    assert (made.mask.voxels == labels).all()
    assert [nodule.attributes.texture for nodule in made.nodules] == [2.0, 2.0]


def test_outlines_are_refused_by_methods_that_choose_their_own_and_beside_places(chest):
    labels = np.zeros(chest.shape, np.uint8)
    z, y, x = np.rint(chest.to_voxel(LEFT)).astype(int)
    labels[z - 1 : z + 2, y - 2 : y + 3, x - 2 : x + 3] = 1
    outlines = replace(chest, voxels=labels)
    own = (
        "given to render, which chooses its own; expected a method that takes outlines: class-aware, flow, injector; "
        "or with render the option shapes, which scales the mask to a diameter$"
    )
    with pytest.raises(InputError, match=own):
        sx.inject(chest, outlines=outlines)
    for name, value in {"at_mm": (0.0, 0.0, 0.0), "auto": 1, "diameter_mm": 8}.items():
        with pytest.raises(InputError, match=f"^{name}: found given with outlines"):
            sx.inject(chest, outlines=outlines, **{name: value})
    with pytest.raises(InputError, match="no voxel above 0"):
        sx.inject(chest, "flow", outlines=replace(chest, voxels=0 * labels))


def test_outlines_need_no_diameter_on_the_command_line(chest, tmp_path, capsys):
    labels = np.zeros(chest.shape, np.uint8)
    z, y, x = np.rint(chest.to_voxel(LEFT)).astype(int)
    labels[z - 1 : z + 1, y - 1 : y + 1, x - 1 : x + 2] = 1
    write_image(tmp_path / "chest.nii.gz", chest)
    write_image(tmp_path / "outlines.nii.gz", replace(chest, voxels=labels))
    command = ["inject", f"{tmp_path}/chest.nii.gz", "--outlines", f"{tmp_path}/outlines.nii.gz", "--out"]
    assert main([*command, f"{tmp_path}/made", "--with", "flow", "--steps", "1"]) == 0
    assert (read_image(tmp_path / "made" / "chest_mask.nii.gz").voxels == labels).all()
    assert main([*command, f"{tmp_path}/none", "--with", "flow", "--diameter", "8"]) == 2
    assert "--diameter: found given with --outlines outlines.nii.gz" in capsys.readouterr().err
    assert main([*command, f"{tmp_path}/none"]) == 2
    assert "outlines: found given to render" in capsys.readouterr().err
    labels[z - 1 : z + 2, y - 2 : y + 3, x - 2 : x + 3] = 2
    write_image(tmp_path / "outlines.nii.gz", replace(chest, voxels=labels))
    assert main([*command, f"{tmp_path}/none", "--with", "flow"]) == 2
    assert "outlines, label 2, diameter: found 29.96 mm; expected at most 24 mm" in capsys.readouterr().err
