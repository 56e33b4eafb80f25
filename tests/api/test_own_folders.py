"""A folder or file of this tool's own, given where something else is expected, is told with what to do."""

import pytest

from synthorax import api
from synthorax.errors import InputError
from synthorax.studies.results import Arm, Interval, write_results
from tests.helpers.stores import cases, store_of


@pytest.fixture
def study(tmp_path):
    """The folder of a study."""
    folder = tmp_path / "study"
    folder.mkdir()
    arms = [Arm("flips", [0], {"auc": Interval(0.75, 0.7, 0.8)}, {})]
    write_results(folder / "results.json", "detection", {"fingerprint": "f"}, arms, answer="Yes.")
    return folder


@pytest.fixture
def run(tmp_path):
    """A folder that looks like a run."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text("system: ac-wgan\n")
    (folder / "data.json").write_text("{}")
    return folder


def test_info_shows_a_study_by_its_folder_and_by_its_results(study):
    found = api.info(study)
    assert (found["holds"], found["study"], found["answer"]) == ("study", "detection", "Yes.")
    assert found["arms"] == {"flips": {"auc": 0.75}}
    assert api.info(study / "results.json") == found


def test_a_store_is_no_scan_and_says_what_takes_it(tmp_path):
    store = store_of(tmp_path / "luna", cases(1))
    with pytest.raises(InputError, match=r"luna: found a store; expected a DICOM folder .*; `train --data`"):
        api.read_scan(store.path)


def test_a_run_and_a_study_are_no_data_and_say_what_takes_them(tmp_path, run, study):
    with pytest.raises(InputError, match=r"run: found a run of `train`; expected a store, .* as a model"):
        api.train("ac-wgan", run, tmp_path / "out", preset="smoke", device="cpu")
    with pytest.raises(InputError, match="study: found a study; expected a store"):
        api.train("ac-wgan", study, tmp_path / "out", preset="smoke", device="cpu")
    assert not (tmp_path / "out").exists()
    for kind in ("lidc", "luna16", "scans", "patches"):
        with pytest.raises(InputError, match="run: found a run of `train`; expected a folder of scans; `sample`"):
            api.prepare(kind, run, out=tmp_path / "store")


def test_a_run_of_another_system_is_told_before_data_are_read(tmp_path, run):
    with pytest.raises(InputError, match="run: found a run of ac-wgan; expected a run of class-aware, as requested"):
        api.train("class-aware", tmp_path / "no store", run, preset="smoke", device="cpu")


def test_a_folder_of_samples_is_no_store_and_says_how_it_becomes_one(tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match="expected a store; `synthorax prepare patches` makes one"):
        api.train("ac-wgan", tmp_path, tmp_path / "out", preset="smoke", device="cpu")


@pytest.mark.parametrize(("name", "said"), [("manifest.json", "give that folder"), ("nodules.csv", "prepare patches")])
def test_a_file_of_this_tool_is_no_scan(tmp_path, name, said):
    (tmp_path / name).write_text("{}")
    with pytest.raises(InputError, match=said):
        api.read_scan(tmp_path / name)


def test_a_table_of_ones_own_is_no_luna16(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "nodules.csv").write_text("image\na.nii.gz\n")
    said = "no annotations.csv of LUNA16, but nodules.csv; expected .* `synthorax prepare patches` reads"
    with pytest.raises(InputError, match=said):
        api.prepare("luna16", tmp_path / "in", out=tmp_path / "store")
