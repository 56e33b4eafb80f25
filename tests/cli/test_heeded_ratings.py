"""A rating that a method does not take is refused before any work, and `--help` does not offer it."""

from itertools import pairwise

import pytest

import synthorax as sx
from synthorax import hub
from synthorax.cli import main
from synthorax.errors import InputError
from synthorax.hub import able
from synthorax.io.images import write_image
from synthorax.nodule import RATINGS, rating_values
from tests.helpers.toy_makers import Dots

REFUSED = (
    "spiculation: found 5, which ac-wgan does not use; expected attributes it uses: diameter_mm, malignancy, texture; "
    "spiculation is used by class-aware, flow, injector, render\n"
)


def test_the_rating_is_refused_before_the_scan_is_read(tmp_path, capsys):
    command = ["inject", str(tmp_path / "missing.nii.gz"), "--with", "ac-wgan", "--out", str(tmp_path / "out")]
    assert main([*command, "--auto", "1", "--diameter", "8", "--spiculation", "5"]) == 2
    assert capsys.readouterr().err.startswith(f"synthorax: --{REFUSED}")
    plan = tmp_path / "plan.csv"
    plan.write_text("diameter_mm,spiculation\n8,5\n")
    assert main([*command, "--plan", str(plan)]) == 2
    assert capsys.readouterr().err.startswith(f"synthorax: plan.csv, line 2, {REFUSED}")


def test_functions_refuse_it_before_they_read_a_scan(tmp_path):
    rated = {"diameter_mm": 8, "auto": 1, "attributes": sx.NoduleAttributes(texture=5.0)}
    with pytest.raises(InputError, match=r"texture: found solid \(5\), which dots does not use"):
        sx.inject(tmp_path / "missing.nii.gz", Dots(), **rated)
    with pytest.raises(InputError, match=r"texture: found solid \(5\), which dots does not use"):
        sx.inject_folder(tmp_path / "missing", tmp_path / "out", Dots(), **rated)


def test_the_help_of_a_method_shows_the_ratings_that_it_takes(capsys):
    assert main(["inject", "--with", "ac-wgan", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--texture" in shown
    assert "--malignancy" in shown
    assert "--spiculation" not in shown
    assert main(["inject", "--help"]) == 0
    assert "--spiculation" in capsys.readouterr().out


@pytest.mark.parametrize("verb", [["inject", "scan.nii", "--with"], ["sample"]])
def test_the_error_for_an_unknown_flag_lists_the_ratings_that_the_method_takes(verb, capsys):
    assert main([*verb, "ac-wgan", "--kind", "solid", "--out", "out"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("synthorax: --kind: no option of ac-wgan; possible are ")
    assert all(f"--{name}," in said for name in ("diameter", "texture", "malignancy", "seed"))
    assert not any(f"--{name}" in said for name in ("subtlety", "spiculation", "margin", "calcification"))


def test_a_rating_that_the_default_method_does_not_take_is_neither_offered_nor_taken(capsys):
    assert main(["inject", "scan.nii", "--kind", "solid", "--out", "out"]) == 2
    offered = capsys.readouterr().err
    assert "--spiculation" in offered
    assert "--subtlety" not in offered
    command = ["inject", "scan.nii", "--out", "out", "--auto", "1", "--diameter", "8"]
    assert main([*command, "--subtlety", "1"]) == 2
    assert capsys.readouterr().err.endswith("; subtlety is used by flow\n")


def test_models_help_and_verbs_agree_on_who_injects_and_who_erases(capsys):
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    verbs = {name.split(":")[0]: about.split(";")[0].split() for name, about in pairwise(lines) if ": " in name}
    assert verbs["translation"] == ["sample,", "translate"]
    assert verbs["ac-wgan"] == ["sample,", "inject,", "study"]
    for verb, role in (("inject", "injects"), ("erase", "erases")):
        for name, own in verbs.items():
            is_named = any(each.strip(",") == verb for each in own)
            assert is_named == (name in able((role,))), name
            if not is_named:
                for more in (["--help"], ["--diameter", "8", "--at=0,0,0", "--out", "out"]):
                    assert main([verb, "scan.nii", "--with", name, *more]) == 2
                    said = capsys.readouterr().err
                    assert said.startswith(f"synthorax: --with: found {name!r}; expected one that {role}: "), said


@pytest.mark.parametrize("name", RATINGS)
def test_a_rating_has_one_value_for_all_nodules_and_a_plan_has_different_ones(name, capsys):
    flag = "--" + name.replace("_", "-")
    assert main(["inject", "scan.nii", "--auto", "2", "--diameter", "8", flag, "1,3", "--out", "out"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"synthorax: {flag}: found '1,3'; expected ")
    assert said.endswith("; one value for all nodules; for different ones use --plan\n")
    assert main(["sample", "ac-wgan", flag, "1,3", "--out", "out"]) == 2
    assert capsys.readouterr().err.endswith("; one value for all nodules\n")
    assert main(["sample", "ac-wgan", flag, "many", "--out", "out"]) == 2
    assert capsys.readouterr().err == f"synthorax: {flag}: found 'many'; expected {rating_values(name)}\n"


@pytest.mark.parametrize(
    "asked", [["--auto", "1", "--diameter", "60", "--malignancy", "4"], ["--outlines", "missing.nii.gz"]]
)
def test_the_check_before_the_scan_is_read_and_the_edit_load_a_model_once(asked, chest, tmp_path, monkeypatch):
    loaded, restore = [], hub._restore
    monkeypatch.setattr(hub, "_restore", lambda name, *rest: loaded.append(name) or restore(name, *rest))
    write_image(tmp_path / "chest.nii.gz", chest)
    command = [
        "inject",
        str(tmp_path / "chest.nii.gz"),
        "--with",
        "class-aware",
        *asked,
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(command) == 2  # the nodule is too wide, or the mask does not exist: the model was needed before that
    assert loaded == ["class-aware"]
    assert hub.load("class-aware") is not hub.load("class-aware")  # nothing is kept after the command


@pytest.mark.parametrize(
    ("command", "use"),
    [
        (
            ["inject", "scan.nii", "--with", "lung"],
            "; a run folder of lung is used by `synthorax sample RUN` and `synthorax inject SCAN --shapes RUN`",
        ),
        (["erase", "scan.nii", "--with", "render"], "; render is used by `synthorax inject SCAN --with render`"),
        (["sample", "class-aware"], "; class-aware is used by `synthorax inject SCAN --with class-aware`"),
        (
            ["translate", "map.nii", "--with", "ac-wgan"],
            "; ac-wgan is used by `synthorax sample ac-wgan` and `synthorax inject SCAN --with ac-wgan`",
        ),
    ],
)
def test_a_model_of_another_kind_is_refused_with_the_command_that_uses_it(command, use, tmp_path, capsys):
    assert main([*command, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.endswith(f"{use}\n")
