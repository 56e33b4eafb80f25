"""The page of flow matching: nodules that are not seen, outlines that are not heeded, what is said of rendering."""

import json
from dataclasses import asdict

import numpy as np
import pytest

import flow_arms
import flow_page
import in_painting_made
from beside_rendering import better_than_rendering, verdicts
from condition_measures import above_half_way, outlined_rows, small_rows
from flow_arms_page import arms_lines, detection_outcome, helped_lines, malignancy_outcome
from flow_goals import ARMS, FLOW, NOT_YET, TIMES, goal_lines
from in_painting_made import RENDER, Making, Places
from known_sites import kept_figures
from rendering_sites import Job, Real
from synthorax.editing.learned import GridFill, Learned
from synthorax.makers import Lineage
from synthorax.nodule import Nodule, NoduleAttributes
from synthorax.patch import PatchSpec
from synthorax.studies import results
from synthorax.studies.detection import DetectionOutcome
from synthorax.studies.malignancy import MalignancyOutcome, MalignancyTest
from synthorax.studies.results import Arm, Interval
from synthorax.tasks.config import DETECTION, MALIGNANCY
from tests.helpers.balls import ball_mask
from tests.helpers.stores import cases, store_of
from tests.helpers.toy_makers import Balls, Dots
from training_hours import training_hours

LUNG_HU, NODULE_HU, CUBE = -850, 50, (50, 50, 50)
GRID = PatchSpec((32, 32, 32))


def real(i, widths_mm):
    """A patient's cube with a nodule that is as wide as given along each axis, and its outline."""
    away = [(axis - 25) / (mm / 2) for axis, mm in zip(np.indices(CUBE), widths_mm, strict=True)]
    outline = sum(a**2 for a in away) <= 1
    hu = np.random.default_rng(i).normal(LUNG_HU, 20, CUBE)
    hu[outline] = NODULE_HU
    attributes = NoduleAttributes(diameter_mm=max(widths_mm[1:]), texture=5.0)
    nodule = Nodule("1", (25.0,) * 3, attributes, 1)
    return Real(f"P{i}", "test", hu.astype(np.int16), outline, nodule, attributes.diameter_mm, outline, 1.0)


@pytest.fixture(scope="module")
def places():
    """Six sites in cubes of lung alone, each with a nodule that is long along another axis than the next one's."""
    shapes = [tuple(np.roll((6.0, 6.0, 12.0 + i / 10), i)) for i in range(6)]
    reals = [real(i, widths_mm) for i, widths_mm in enumerate(shapes)]
    lung = [real(10 + i, (1.0, 1.0, 1.0)) for i in range(6)]
    return Places([*reals, *lung], [Job(i, 6 + i, (25, 25, 25), i) for i in range(6)])


def painter(hu=NODULE_HU, heeds_outline=True):
    """An in-painter that fills the outline that it is given, or a ball of the diameter, with one HU."""

    def fill(patch, region, edit, seed):
        ball = ball_mask(patch.shape, edit.diameter_mm)
        mask = edit.mask if edit.mask is not None and heeds_outline else ball
        return GridFill(np.where(mask & region, np.float32(hu), patch), mask & region)

    return Learned(
        fill,
        GRID,
        name="painter",
        lineage=Lineage("painter", "1" * 64),
        heeds=frozenset({"diameter_mm"}),
        roles=frozenset({"injects"}),
        keeps_noise=True,
        outline=lambda region, edit, seed: ball_mask(region.shape, edit.diameter_mm) & region,
    )


def making(places, method, folder):
    return Making(method.name, method, places, range(len(places.jobs)), folder)


@pytest.mark.parametrize(("hu", "hidden"), [(NODULE_HU, 0), (LUNG_HU, 12)])
def test_small_nodules_as_dark_as_lung_are_counted_as_hidden_and_dense_ones_are_not(
    places, tmp_path, monkeypatch, hu, hidden
):
    monkeypatch.setattr(in_painting_made, "SMALL", 12)
    found = small_rows(making(places, painter(hu), tmp_path))
    assert (found["invisible"], found["n"]) == (hidden, 12)
    assert found["share"][1] <= hidden / 12 <= found["share"][2]


def test_nodules_have_the_outline_told_more_than_anothers_only_where_it_is_heeded(places, tmp_path):
    heeding = outlined_rows(making(places, painter(), tmp_path / "heeding"))
    deaf = outlined_rows(making(places, painter(heeds_outline=False), tmp_path / "deaf"))
    assert heeding["told"][0] > 0.95 > heeding["another"][0] + 0.2
    assert deaf["told"][0] < heeding["told"][0] - 0.2
    assert heeding["real"][0] > 0.95
    assert deaf["n"] == 6


def test_a_rank_correlation_is_told_above_the_middle_of_renderings_and_real_ones():
    asked = np.arange(20.0)
    patients = np.arange(20)
    found = above_half_way(asked, [asked, -asked, asked], [patients, patients, patients + 20])
    assert found.value == pytest.approx(1.0)


def methods(**figures):
    """Figures of two methods, the flow's after rendering's; each figure as value, low and high."""
    names = ("inner_seam", "texture_to_real", "lung", "diversity_hu", "diversity_shape")
    return {
        name: {
            "sha256": "2" * 64,
            "in-painting": {key: {"n": 9, "value": figures.get(key, ((1.0, 1.0, 1.0),) * 2)[i]} for key in names},
            "widths": {"half-width": [0.8 + i / 10] * 3, "mask": [0.9] * 3, "above half-way": [i / 10] * 3},
        }
        for i, name in enumerate((RENDER, FLOW))
    }


def painted(void="", **figures):
    judged = {RENDER: {"auc": [0.6, 0.55, 0.65], "less rendered": None}}
    judged[FLOW] = {"auc": [0.7, 0.65, 0.75], "less rendered": [0.1, 0.05, 0.15]}
    return {
        "kid": {RENDER: [70.0, 60.0, 80.0], FLOW: [40.0, 30.0, 50.0]},
        "told": {"whole": {"controls": {"void": void}, "methods": judged}},
        "methods": methods(**figures),
        "widths": {"half-width": [0.95, 0.9, 0.97]},
    }


def test_a_figure_is_better_worse_or_good_in_both_and_a_void_verdict_counts_for_nothing():
    one = painted(texture_to_real=([1.5, 1.4, 1.6], [1.2, 1.1, 1.45]), diversity_hu=([0.9] * 3, [0.5] * 3))
    sentence = better_than_rendering(verdicts(one, FLOW))
    better, worse, both = sentence.split("; ")
    assert "KID x 1000 (40 against 70, beyond chance), texture of nodules (1.20 against 1.50)" in better
    apart = [
        "told apart, whole (0.700 against 0.600, beyond chance)",
        "diversity in HU (0.50 against 0.90, beyond chance)",
    ]
    assert worse == f"no better in {', '.join(apart)}"
    assert "seam" in both
    void = better_than_rendering(verdicts(painted("void: real patches are told from real ones"), FLOW))
    assert "no better in" not in void
    assert "no verdict, since its controls failed, on told apart, whole (0.700 against 0.600)" in void


def figures(**parts):
    return {
        "hours": {RENDER: 0.0, FLOW: 2.5},
        "steps": {},
        **{name: {} for name in flow_page.PARTS},
        TIMES: None,
        ARMS: None,
        **parts,
    }


def test_the_result_is_two_sentences_with_the_share_of_pairs_and_the_hours():
    first, second = flow_page.result_lines(figures(), painted())
    assert first.startswith("A network that was trained on real")
    assert first.endswith("in 70% of pairs; 50% is perfect, and for rendered nodules it is 60%.")
    assert [first.count(". "), second.count(". ")] == [0, 0]


def test_goals_that_were_not_measured_say_so_and_others_whether_they_are_reached():
    small = {FLOW: {"n": 200, "mm": 4.0, "invisible": 3, "share": [0.015, 0.003, 0.043], "refused": []}}
    lines = list(goal_lines(figures(small=small), painted()))
    found, goal = "0.90 (0.90 to 0.90); rendering 0.80, real 0.95", "at least the mean of rendering's and real"
    assert f"| diameter, rank correlation | {found} | {goal} | reached |" in lines
    assert "| nodules of 4 mm hidden by noise | 3 of 200 | none | MISSED |" in lines
    assert sum(NOT_YET in line for line in lines) == 6


@pytest.mark.parametrize(
    ("rendered", "said"), [(3.5, "of CPU | at most 2.5 | MISSED"), (9.0, "machine | at most 2.5 | reached")]
)
def test_seconds_are_told_beside_their_goals_by_cpu_where_other_work_slowed_the_machine(rendered, said):
    rows = [
        {"precision": "32", "steps": n, "amx": False, "threads": 1, "seconds": n / 10, "cpu_seconds": n / 20}
        for n in (4, 16)
    ]
    process = {"seconds": rendered, "user": 3.0, "gigabytes": 1.0}
    drawn = process | {"above_s": 2.6, "above_user_s": 2.4}
    times = {"methods": {RENDER: process, FLOW: drawn}, "by steps": {"rows": rows}}
    lines = list(goal_lines(figures(**{TIMES: times}), painted()))
    assert any("+2.60, +2.40 of CPU" in line and said in line for line in lines)
    assert any("1.60, 0.80 of CPU; CPU counts" in line and "under 1 | reached" in line for line in lines)


def test_outcomes_of_both_studies_come_back_from_json_and_the_flows_arms_are_told():
    arms = [Arm("raw", [0], {"auc": Interval(0.9, 0.8, 0.95)}, {})]
    found = DetectionOutcome(
        arms, [results.Test("flips + flow", "flips", "auc", 0.01, -0.01, 0.03, 0.2, 0.4)], {}, 9, {"n": 1}
    )
    other = MalignancyOutcome(
        arms,
        [MalignancyTest("raw + flow, benign contexts x 2", "raw", 0.02, 0.0, 0.04, 0.1, 0.2, 0.02, 0.1)],
        0.05,
        {},
        {},
        9,
        ("note",),
    )
    read, read_other = (json.loads(json.dumps(asdict(each))) for each in (found, other))
    assert detection_outcome(read) == found
    assert malignancy_outcome(read_other) == other
    every = {
        "detection": {"all": {"outcome": read, "maker": FLOW}},
        "malignancy": {"few": {"outcome": read_other, "maker": FLOW}},
    }
    assert [row[1] for row in helped_lines(every)] == ["+0.010 (-0.010 to +0.030)", "+0.020 (+0.000 to +0.040)"]


def test_hours_are_those_of_the_card_with_its_segmenter_or_of_the_log(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1, "seconds": 1800.0}\n{"step": 2, "seconds": 5400.0}\n')
    assert training_hours(str(tmp_path)) == 1.5
    assert training_hours("ac-wgan") == pytest.approx((183.0 + 83.4) / 60, abs=0.01)
    assert training_hours(RENDER) == 0


def test_figures_of_a_part_are_measured_anew_for_another_model_alone(tmp_path):
    made = []

    def make():
        made.append(len(made))
        return {"value": made[-1]}

    values = [kept_figures(tmp_path / "part.json", key, make)["value"] for key in ("a", "a", "b", "b")]
    assert values == [0, 0, 1, 1]


class FlowOfBalls(Balls):
    """Makes balls in patches and puts them into others."""

    roles = frozenset({"makes patches", "injects"})
    reach_mm, fill_many, _fill = Dots.reach_mm, Dots.fill_many, Dots._fill

    def __init__(self):
        super().__init__(name=FLOW, selects=False, heeds=frozenset({"diameter_mm"}))


@pytest.mark.usefixtures("one_thread")
def test_both_studies_have_the_flows_arms_with_all_and_with_few_patients_and_are_read_when_done(tmp_path, monkeypatch):
    store = store_of(tmp_path / "store", cases(12, readers=((1, 2, 2, 1), (5, 5, 4, 4), (2, 1, 2, 1))))
    config = MALIGNANCY["smoke"].model_copy(update={"shift_voxels": 1.0, "steps": 4, "batch_size": 4})
    monkeypatch.setattr(flow_arms, "DETECTION", tmp_path / "detection")
    monkeypatch.setattr(flow_arms.api, "prepare", lambda *args, **options: store)
    monkeypatch.setattr(flow_arms.hub, "find", lambda *args: FlowOfBalls())
    monkeypatch.setattr(flow_arms, "task_config", lambda *args: DETECTION["smoke"])
    monkeypatch.setattr(flow_arms.detection, "TRAININGS", 1)
    monkeypatch.setattr(flow_arms.detection, "AMOUNTS", (1.0,))
    part = flow_arms.malignancy.Part(store, config, tmp_path / "malignancy", trainings=1)
    monkeypatch.setattr(flow_arms.malignancy, "parts", lambda *args: (part, part, part))
    asked = (tmp_path, "all-run", "few-run", tmp_path / "arms", "code")
    every = flow_arms.measured_arms(*asked)
    names = [row[0] for row in helped_lines(every)]
    assert "detection, 33 training patients: flips + flow, less flips" in names
    assert "malignancy, all training patients: raw + flow, benign contexts x 2, less raw" in names
    text = "\n".join(arms_lines(every, tmp_path))
    assert "1 trainings of 4 steps, 16 patches; 2 made nodules for each real one" in text
    monkeypatch.setattr(flow_arms, "detection_study", None)
    monkeypatch.setattr(flow_arms, "malignancy_study", None)
    assert json.loads(json.dumps(every)) == flow_arms.measured_arms(*asked)
