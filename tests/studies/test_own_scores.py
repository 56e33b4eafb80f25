"""`synthorax study scores`: the scores of one's own detectors with and without synthetic nodules."""

import re

import numpy as np
import pytest

from synthorax import api
from synthorax.cli import main
from synthorax.errors import InputError
from synthorax.io.mappings import read_mapping
from synthorax.io.tables import write_table
from synthorax.metrics.bootstrap import difference
from synthorax.metrics.comparisons import holm_of_known
from synthorax.metrics.roc import auc_of
from synthorax.studies.trials import compared_over_seeds, over_seeds

LABELS = np.tile([1, 0, 0], 60)
PATIENTS = np.repeat([f"P{i:02d}" for i in range(60)], 3)
SKILL = {"without": 1.0, "with": 4.0, "flips": 1.0}


def scores_of(arm, training):
    noise = np.random.default_rng([len(arm), training]).normal(size=len(LABELS))
    return noise + SKILL[arm] * LABELS


def rows_of(arm, training):
    rows = zip(PATIENTS, LABELS.tolist(), scores_of(arm, training).tolist(), strict=True)
    return [
        {"patient": patient, "case": f"c{i}", "label": label, "score": score, "training": training}
        for i, (patient, label, score) in enumerate(rows)
    ]


def written(path, rows):
    write_table(path, rows)
    return path


def arm_file(folder, arm, trainings=(0, 1, 2)):
    return written(folder / f"{arm}.csv", [row for training in trainings for row in rows_of(arm, training)])


def test_arms_are_compared_by_the_paired_test_of_the_studies_and_corrected_together(tmp_path):
    files = [arm_file(tmp_path, arm) for arm in SKILL]
    page = api.study_scores(files, tmp_path / "out")
    results = read_mapping(tmp_path / "out" / "results.json")
    aucs = {arm: [auc_of(LABELS, scores_of(arm, training)) for training in range(3)] for arm in SKILL}
    by_name = {arm["name"]: arm["metrics"]["auc"] for arm in results["arms"]}
    assert list(by_name) == list(SKILL)
    for arm, found in by_name.items():
        expected = over_seeds(aucs[arm], PATIENTS)
        assert (found["mean"], found["low"], found["high"]) == (expected.mean, expected.low, expected.high)
    tests = results["tests"]
    assert [(test["a"], test["b"]) for test in tests] == [("with", "without"), ("flips", "without")]
    raw = []
    for test in tests:
        pairs = zip(aucs[test["a"]], aucs["without"], strict=True)
        expected = compared_over_seeds([difference(*pair) for pair in pairs], PATIENTS)
        assert (test["difference"], test["low"], test["p"]) == (expected.difference, expected.low, expected.p)
        raw.append(expected.p)
    assert [test["p_holm"] for test in tests] == holm_of_known(raw)
    assert results["answer"].startswith("“with” has a higher AUC than “without”, p < 0.05")
    size = r"Difference \(95 % interval\): “with” \+0\.\d{3} \(\+0\.\d{3} to \+0\.\d{3}\)\.$"
    assert re.search(size, results["answer"])
    assert results["answer"] in page.read_text().replace("&lt;", "<")
    assert results["counts"] == {"patients": 60, "nodules": 60, "cases without one": 120}


def test_one_file_with_its_rows_in_another_order_says_the_same_and_another_arm_may_be_the_reference(tmp_path):
    api.study_scores([arm_file(tmp_path, arm) for arm in ("without", "with")], tmp_path / "two")
    rows = [row | {"arm": arm} for arm in ("without", "with") for i in range(3) for row in rows_of(arm, i)]
    one = [{"patient_id": row.pop("patient"), **row} for row in reversed(rows)]
    file = written(tmp_path / "one.csv", one)
    assert main(["study", "scores", "--scores", str(file), "--reference", "without", "--out", str(tmp_path / "o")]) == 0
    tests = [read_mapping(tmp_path / name / "results.json")["tests"][0] for name in ("two", "o")]
    assert tests[0]["difference"] == pytest.approx(tests[1]["difference"], abs=1e-12)
    assert (tests[1]["a"], tests[1]["b"]) == ("with", "without")


def test_few_trainings_give_no_p_value(tmp_path):
    api.study_scores([arm_file(tmp_path, arm, (0, 1)) for arm in ("without", "with")], tmp_path / "out")
    results = read_mapping(tmp_path / "out" / "results.json")
    assert (results["tests"][0]["p"], results["tests"][0]["p_holm"]) == (None, None)
    assert results["answer"].startswith("Not known")


def changed(at, **cells):
    rows = rows_of("with", 0)
    rows[at] |= cells
    return rows


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([{k: v for k, v in row.items() if k != "label"} for row in rows_of("with", 0)], "no column label"),
        (changed(4, label=2), "label '2' in line 6"),
        (changed(4, score="nan"), "score 'nan' in line 6"),
        (changed(4, score=""), "score '' in line 6"),
        (changed(4, patient=""), "no patient in line 6"),
        (changed(1, case="c0"), "case c0 of patient P00 twice"),
        (changed(4, label=1), "case c4 of patient P01 with label 1 in with and another in without"),
        (rows_of("with", 0)[:-1], "1 case that not all arms and trainings have, such as c179 of patient P59"),
        ([*rows_of("with", 0), *rows_of("with", 1)], "trainings: 1 of without, 2 of with"),
        ([{**row, "arm": "without", "training": 9} for row in rows_of("with", 0)], "only the arm without"),
    ],
)
def test_a_mistake_in_a_table_is_one_line_and_leaves_nothing_behind(tmp_path, capfd, rows, found):
    files = [arm_file(tmp_path, "without", (0,)), written(tmp_path / "with.csv", rows)]
    out = tmp_path / "out"
    code = main(["study", "scores", "--scores", str(files[0]), "--scores", str(files[1]), "--out", str(out)])
    error = capfd.readouterr().err.strip()
    assert (code, out.exists(), error.count("\n")) == (2, False, 0)
    assert found in error


def test_the_same_comparison_is_there_already_and_another_is_refused(tmp_path):
    files = [arm_file(tmp_path, arm, (0,)) for arm in ("without", "with")]
    page = api.study_scores(files, tmp_path / "out")
    before = page.stat().st_mtime_ns
    assert api.study_scores(files, tmp_path / "out") == page
    assert page.stat().st_mtime_ns == before
    arm_file(tmp_path, "with", (1,))
    with pytest.raises(InputError, match=r"the results of another study \(of other scores\)"):
        api.study_scores(files, tmp_path / "out")
    api.study_scores(files, tmp_path / "out", overwrite=True)
    assert page.stat().st_mtime_ns > before


def test_files_of_one_name_in_two_folders_are_told_apart(tmp_path):
    files = [tmp_path / arm / "scores.csv" for arm in ("without", "with")]
    for file in files:
        file.parent.mkdir()
        written(file, [row | {"arm": file.parent.name} for row in rows_of(file.parent.name, 0)])
    api.study_scores(files, tmp_path / "out")
    files[0].write_text(files[0].read_text() + "\n")
    with pytest.raises(InputError, match=r"the results of another study \(of other scores\)"):
        api.study_scores(files, tmp_path / "out")


def test_another_reference_and_a_folder_of_something_else_are_refused(tmp_path):
    files = [arm_file(tmp_path, arm, (0,)) for arm in ("without", "with")]
    with pytest.raises(InputError, match="reference: found 'real'; expected one of the arms without, with"):
        api.study_scores(files, tmp_path / "out", reference="real")
    with pytest.raises(InputError):
        api.study_scores(files, tmp_path, overwrite=True)


def test_a_reference_like_chance_asks_for_more_patients_and_an_auc_of_1_has_a_note(tmp_path):
    few = [{"patient": f"P{i}", "case": kind, "label": int(kind == "n")} for i in range(4) for kind in ("n", "v")]
    scores = {"without": [0.9, 0.4, 0.4, 0.5, 0.9, 0.1, 0.8, 0.2], "with": [0.9, 0.1] * 4}
    files = [
        written(tmp_path / f"{arm}.csv", [row | {"score": score} for row, score in zip(few, found, strict=True)])
        for arm, found in scores.items()
    ]
    page = api.study_scores(files, tmp_path / "out").read_text()
    answer = read_mapping(tmp_path / "out" / "results.json")["answer"]
    assert answer.startswith(
        "The scores say nothing: with 4 patients, the reference “without” is not significantly better"
    )
    assert answer.endswith("; score more patients.")
    assert "baseline" not in answer
    assert "The interval of an AUC of 1 has no width" in page
