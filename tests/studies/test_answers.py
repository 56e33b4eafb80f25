"""The first sentences of a study's page say what its figures mean."""

import re
from pathlib import Path

import pytest

from pages import sure_differences
from synthorax import report
from synthorax.metrics.estimates import Estimate
from synthorax.studies.answers import how_real, what_real_alone_gives, whether_followed, whether_shapes_are_new
from synthorax.studies.results import Arm, Interval

REAL_ONES, RENDERED = "real nodules of other patients", "rendered nodules"


@pytest.mark.parametrize(
    ("own", "less_real", "less_rendered", "said"),
    [
        (
            9450,
            (9000, 9500),
            (8900, 9400),
            "Far from real. KID x 1000 is 9450 (9350 to 9550); it is 189 (89 to 289) for",
        ),
        (400, (100, 300), (50, 250), f"Less close to real than {REAL_ONES} or {RENDERED}. KID x 1000 is 400"),
        (200, (1, 20), (-90, -10), f"Closer to real than {RENDERED}, less close to real than {REAL_ONES}. KID"),
        (50, (-200, -10), (-300, -90), f"As close to real as {REAL_ONES}. KID x 1000 is 50"),
        (
            180,
            (-90, 70),
            (-90, -10),
            f"Closer to real than {RENDERED}; 25 patches of each kind are too few to tell their ",
        ),
        (180, (10, 70), (-90, 10), f"Less close to real than {REAL_ONES}; 25 patches of each kind are too few to tell"),
        (100, (-190, 9), (-300, 1), "Not known: 25 patches of each kind are too few to tell their KID from that of "),
    ],
)
def test_likeness_is_said_beside_real_nodules_and_rendered_ones_as_far_as_intervals_decide(
    own, less_real, less_rendered, said
):
    kid = {
        name: Interval(kid, kid - 100, kid + 100) for name, kid in (("real", 189), ("ac-wgan", own), ("render", 250))
    }
    less = {"real": Estimate(own - 189, *less_real), "render": Estimate(own - 250, *less_rendered)}
    assert how_real(kid, less, "ac-wgan", "real", "render", 25).startswith(said)


def test_likeness_without_intervals_is_not_known_whatever_the_values_are():
    kid = {name: Interval(value, None, None) for name, value in (("real", 189), ("ac-wgan", 10), ("render", 250))}
    said = how_real(kid, {}, "ac-wgan", "real", "render", 4)
    assert said.startswith(
        f"Not known: 4 patches of each kind are too few to tell their KID from that of {REAL_ONES} or"
    )


def test_too_few_samples_are_said():
    assert how_real({"real": Interval(189.0, None, None)}, {}, "ac-wgan", "real", "render", 3).startswith(
        "Likeness is not known"
    )


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ((-0.22, -0.4, 0.0), "The requested diameter is not followed (rank correlation -0.22; that of real nodules"),
        ((0.1, -0.1, 0.3), "The requested diameter is not followed"),
        (
            (0.4, -0.1, 0.8),
            "Whether the requested diameter is followed is not known (rank correlation 0.400 (-0.100 to",
        ),
        ((0.3, 0.1, 0.5), "The requested diameter is followed weakly"),
        ((0.9, 0.8, 0.95), "The requested diameter is followed (rank correlation 0.90; that of real nodules is 0.85)."),
    ],
)
def test_whether_the_diameter_is_followed_is_said(made, said):
    assert whether_followed(Interval(*made), Interval(0.85, 0.8, 0.9)).startswith(said)


def test_a_maker_without_diameters_is_said():
    assert whether_followed(None, None) == "No diameter can be requested of this maker."


def arm(name, **metrics):
    return Arm(name, [], {measure: Interval(*value) for measure, value in metrics.items()}, {})


def test_what_real_patches_give_is_said_of_each_task_beside_the_trivial_method():
    tasks = {
        "A nodule or not": [arm("detector", auc=(0.997, 0.991, 0.999)), arm("HU alone", auc=(0.884, 0.846, 0.917))],
        "Its voxels": [arm("U-Net", dice=(0.72, None, None)), arm("dense", dice=(0.5, None, None))],
    }
    assert what_real_alone_gives(tasks) == (
        "A nodule or not: AUC 0.997 (0.991 to 0.999) by the network, 0.884 (0.846 to 0.917) by HU alone, "
        "without a network. "
        "Its voxels: Dice 0.720 by the network, 0.500 by dense, without a network."
    )


def test_whether_shapes_are_accepted_and_new_is_said():
    main = arm("main", acceptance=(0.884, 0.8, 0.9), copies=(0.01, 0, 0.02), feature_distance=(1.76, 1.7, 1.8))
    assert whether_shapes_are_new(main) == (
        "The analyzer accepts 88.4 % of the generated nodules as like the real ones. 1.0 % are copies of a training "
        "sample; from the closest real nodule they differ by 1.76 standard deviations of the 12 features."
    )


TEMPLATES = sorted(Path(report.__file__).parent.glob("templates/study_*.html"))


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_the_title_of_every_page_is_a_question_and_the_answer_follows_it(template):
    title, after = re.search(r"<h1>(.*?)</h1>\s*<p><b>{{ (\w+) }}</b></p>", template.read_text()).groups()
    assert title.endswith("?")
    assert after in ("answer", "sentence")


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ([], "No two arms differ significantly (p < 0.05 after correction)."),
        (
            [("a", "b", 0.1)],
            "Significantly better (p < 0.05 after correction): “a” than “b”; none is significantly worse.",
        ),
        (
            [("a", "b", -0.1), ("c", "b", -0.2)],
            "Significantly worse (p < 0.05 after correction): “a” than “b”, “c” than “b”; none is significantly "
            "better.",
        ),
    ],
)
def test_the_pages_of_results_say_which_arms_differ(pairs, said):
    assert sure_differences(pairs) == said
