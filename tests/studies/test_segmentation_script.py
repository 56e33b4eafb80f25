"""The page of the study of segmentation: what it tells of an outcome, of painted CT and of a run."""

import numpy as np
import pytest

import results_segmentation as page
from synthorax.anatomy.tissue import TissueClass
from synthorax.studies.painted_maps import PaintedCase
from synthorax.studies.results import Arm, Interval
from synthorax.studies.segmentation import SegmentationOutcome
from synthorax.studies.segmentation_figures import Replaced, SegmenterTest, Spread

MEASURES = ("sensitivity", "accuracy", "dice", "f2")
ARMS = {"n real": (48, 99, 0), "N real": (280, 560, 0), "n real + 10n synthetic": (48, 99, 990)}


@pytest.fixture(scope="module")
def outcome():
    figures = {name: Interval(0.5, 0.4, 0.6) for name in MEASURES}
    published = {"sensitivity": 0.549, "dice": 0.3736, "f2": 0.4286}
    arms = [Arm(name, [0, 1], figures, published if "synthetic" in name else {}) for name in ARMS]
    tests = [
        SegmenterTest("n real + 10n synthetic", "N real", measure, -0.02, -0.05, 0.01, 0.2, 0.4, 0.1)
        for measure in ("dice", "sensitivity", "f2")
    ]
    tests.append(SegmenterTest("n real + 10n synthetic", "n real", "dice", 0.05, 0.01, 0.09, 0.02, 0.04, 0.03))
    tests.append(SegmenterTest("n real", "N real", "dice", -0.1, -0.15, -0.05, 0.01, 0.02, 0.01))
    spread = Spread(0.5, 0.49, 0.2, 0.4, 0.6, 0.3)
    return SegmentationOutcome(
        arms=arms,
        learned=ARMS,
        spreads={name: dict.fromkeys(MEASURES, spread) for name in ARMS},
        curves={step: dict.fromkeys(ARMS, figures) for step in (140, 350)},
        tests=tests,
        later=tests,
        replaced=Replaced(90.0, 20.0, 232.0, 232),
        smallest=0.03,
        boundaries={"real": Interval(0.7, 0.6, 0.8)},
        counts={
            "n patients": 48,
            "N patients": 280,
            "n volumes": 99,
            "N volumes": 560,
            "test patients": 96,
            "test volumes": 183,
            "empty volumes": 253,
        },
        drawn=1680,
    )


def test_the_page_says_first_how_many_patients_were_replaced_and_shows_the_thesis_beside_ours(outcome, tmp_path):
    lines = list(page.study_lines(outcome, tmp_path, 350, 420))
    assert lines[0].startswith("**By the mean Dice of the test volumes, 990 synthetic volumes beside 48 real patients")
    assert "replaced 90 further real patients (95 % interval 20 to 232 of 232 (the curve" in lines[0]
    text = "\n".join(lines)
    assert "| *thesis* |  |  |  | *0.549* |  | *0.374* | *0.429* |" in text
    assert "0.345, 0.374, 0.226, 0.8380 | 0.217, 0.293, 0.226, 0.0020" in text
    assert {file.name for file in tmp_path.iterdir()} == {
        f"segmentation-{name}.png" for name in ("differences", "steps", "amounts")
    }


def test_painted_ct_stands_beside_real_ct_the_worst_cases_included(tmp_path):
    random = np.random.default_rng(0)
    cases = []
    for i in range(8):
        classes = np.full((16, 16, 16), int(TissueClass.OTHER), np.uint8)
        real = random.normal(-850, 30, classes.shape).astype(np.int16)
        cases.append(PaintedCase(classes, real, (real + 10 * i).astype(np.int16), f"p{i}"))
    lines = list(page.map_lines({"volumes": cases}))
    assert lines[0] == "| HU | real | volumes |"
    assert any(line.startswith("| lung, step between slices |") for line in lines)
    list(page.picture_lines({"volumes": cases}, tmp_path))
    assert sorted(file.stem for file in tmp_path.iterdir()) == [
        f"segmentation-{name}" for name in ("coronal", "first", "worst")
    ]
