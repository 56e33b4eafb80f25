"""A rerun with another request is told which options differ, by their flags."""

import pytest

from synthorax.io.requests import differing_options

FIRST = {
    "synthorax": "1",
    "edit": "inject",
    "seed": 1,
    "place": "a",
    "request": {"auto": 2, "diameters_mm": [6.0, 8.0]},
}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": 4}, "--seed was 1, now 4"),
        ({"annotated": "all"}, "--annotated was not given, now all"),
        ({"request": {"auto": 2, "diameters_mm": []}}, "--diameter was 6.0,8.0, now not given"),
        (
            {"place": "b", "keep_identity": True},
            "--keep-identity was not given, now True; the path of the source differs",
        ),
        ({"edit": "erase", "seed": 9}, "the verb was inject, now erase"),
        ({"plan": {"a.nii.gz": [{"diameter_mm": 6, "method": "render"}]}}, "--plan differs"),
    ],
)
def test_only_the_options_that_differ_are_named(change, told):
    assert differing_options(FIRST, FIRST | change) == told


def test_equal_requests_differ_in_nothing():
    assert differing_options(FIRST, dict(FIRST)) == ""
