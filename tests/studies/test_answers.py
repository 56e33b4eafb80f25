"""The first sentences of a study's page say what its figures mean."""

import pytest

from synthorax.studies.answers import how_real, whether_followed
from synthorax.studies.results import Interval


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (9450, "Far from real: KID x 1000 is 9450; it is 189 for real nodules of other patients and 250 for rendered"),
        (400, "Less close to real than real nodules of other patients or rendered nodules: KID x 1000 is 400;"),
        (200, "Closer to real than rendered nodules, not as close as real nodules of other patients: KID x 1000 is"),
        (100, "As close to real as real nodules of other patients: KID x 1000 is 100; it is 189 for real nodules"),
    ],
)
def test_likeness_is_said_beside_real_nodules_and_rendered_ones(own, said):
    kid = {"real": 189.0, "ac-wgan": float(own), "render": 250.0}
    assert how_real(kid, "ac-wgan", "real", "render").startswith(said)


def test_too_few_samples_are_said():
    assert how_real({"real": 189.0}, "ac-wgan", "real", "render").startswith("Likeness is not known")


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ((-0.22, -0.4, 0.0), "The requested diameter is not followed (rank correlation -0.22; that of real nodules"),
        ((0.1, -0.1, 0.3), "The requested diameter is not followed"),
        ((0.3, 0.1, 0.5), "The requested diameter is followed weakly"),
        ((0.9, 0.8, 0.95), "The requested diameter is followed (rank correlation 0.90; that of real nodules is 0.85)."),
    ],
)
def test_whether_the_diameter_is_followed_is_said(made, said):
    assert whether_followed(Interval(*made), Interval(0.85, 0.8, 0.9)).startswith(said)


def test_a_maker_without_diameters_is_said():
    assert whether_followed(None, None) == "No diameter can be requested of this maker."
