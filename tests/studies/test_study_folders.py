"""The folder of a study holds the results of one request, and its real arms are of real cases alone."""

import json
from dataclasses import replace

import pytest

from synthorax.cli import main
from synthorax.provenance import SYNTHETIC_MARK
from tests.helpers.stores import cases, store_of

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = ("--preset", "smoke", "--device", "cpu", "--model", "none", "--set", "steps=2")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A store of four real patients in each split, and of a synthetic training case."""
    real = cases(4)
    made = replace(real[0], case_id="made", patient_id="synthetic-00000", synthetic=SYNTHETIC_MARK)
    return store_of(tmp_path_factory.mktemp("mixed") / "mixed", [*real, made])


def test_a_store_without_its_synthetic_cases_is_another_store(mixed, tmp_path):
    real = mixed.without_synthetic()
    assert {case.case_id for case in real.cases} == {case.case_id for case in mixed.cases} - {"made"}
    assert (len(mixed.splits["train"]), len(real.splits["train"])) == (5, 4)
    assert real.fingerprint != mixed.fingerprint
    assert real.note.startswith("1 synthetic case of the store mixed left out")
    assert mixed.note == ""
    assert real.without_synthetic() is real
    alone = store_of(tmp_path / "alone", [replace(case, synthetic=SYNTHETIC_MARK) for case in cases(1)])
    assert alone.without_synthetic() is alone  # such as a store of phantoms


def test_a_study_leaves_synthetic_cases_out_and_does_not_replace_another_studys_results(mixed, tmp_path, capsys):
    out = tmp_path / "study"
    shared = ["--data", f"{mixed.path}", "--out", f"{out}", *QUICK]
    asked = ["study", "detection", *shared, "--amounts", "1"]
    assert main([*asked, "--trainings", "1"]) == 0
    left = "1 synthetic case of the store mixed left out: real nodules are compared with those of the models"
    assert f"synthorax: warning: {left}; `synthorax study scores`" in capsys.readouterr().err
    assert f"{left}." in (out / "index.html").read_text()
    results = json.loads((out / "results.json").read_text())
    assert results["data"]["note"] == left
    assert "synthetic-00000" not in results["splits"]["train"]
    assert main([*asked, "--trainings", "1"]) == 0  # the same request
    others = {
        "of other trainings": [*asked, "--trainings", "2"],
        "detection, not malignancy": ["study", "malignancy", *shared, "--trainings", "1"],
    }
    for differs, arguments in others.items():
        capsys.readouterr()
        assert main(arguments) == 2
        said = f"{out}: found the results of another study ({differs}); expected the same request, another folder, or"
        assert said in capsys.readouterr().err
        kept = json.loads((out / "results.json").read_text())
        assert (kept["study"], kept["request"]) == (results["study"], results["request"])
    assert main([*asked, "--trainings", "2", "--overwrite"]) == 0
    assert json.loads((out / "results.json").read_text())["request"]["trainings"] == 2


def test_results_of_an_earlier_version_are_compared_by_study_and_data(mixed, tmp_path, capsys):
    out = tmp_path / "study"
    (out / "trainings").mkdir(parents=True)
    (out / "results.json").write_text(json.dumps({"study": "detection", "data": {"fingerprint": "another"}}))
    shared = ["--data", f"{mixed.path}", "--out", f"{out}", *QUICK]
    assert main(["study", "detection", *shared]) == 2
    assert "found the results of another study (of other data)" in capsys.readouterr().err
