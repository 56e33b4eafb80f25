"""A rating that a method does not take is refused before any work, and `--help` does not offer it."""

import pytest

import synthorax as sx
from synthorax.cli import main
from synthorax.errors import InputError
from tests.helpers.toy_makers import Dots

REFUSED = "spiculation: found 5, which ac-wgan does not heed; expected attributes it heeds: diameter_mm, "


def test_the_rating_is_refused_before_the_scan_is_read(tmp_path, capsys):
    command = ["inject", str(tmp_path / "missing.nii.gz"), "--with", "ac-wgan", "--out", str(tmp_path / "out")]
    assert main([*command, "--auto", "1", "--diameter", "8", "--spiculation", "5"]) == 2
    assert capsys.readouterr().err.startswith(f"synthorax: {REFUSED}")
    plan = tmp_path / "plan.csv"
    plan.write_text("diameter_mm,spiculation\n8,5\n")
    assert main([*command, "--plan", str(plan)]) == 2
    assert capsys.readouterr().err.startswith(f"synthorax: plan.csv, line 2, {REFUSED}")


def test_functions_refuse_it_before_they_read_a_scan(tmp_path):
    rated = {"diameter_mm": 8, "auto": 1, "attributes": sx.NoduleAttributes(texture=5.0)}
    with pytest.raises(InputError, match="texture: found 5, which dots does not heed"):
        sx.inject(tmp_path / "missing.nii.gz", Dots(), **rated)
    with pytest.raises(InputError, match="texture: found 5, which dots does not heed"):
        sx.inject_folder(tmp_path / "missing", tmp_path / "out", Dots(), **rated)


def test_the_help_of_a_method_shows_the_ratings_that_it_takes(capsys):
    assert main(["inject", "--with", "ac-wgan", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--texture" in shown
    assert "--malignancy" in shown
    assert "--spiculation" not in shown
    assert main(["inject", "--help"]) == 0
    assert "--spiculation" in capsys.readouterr().out
