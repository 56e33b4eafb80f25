"""A folder that is no run folder does not hide a system or a bundled model of its name."""

import pytest

from synthorax import hub
from synthorax.cli import main
from synthorax.errors import InputError


def test_a_folder_that_is_no_model_hides_neither_a_system_nor_a_bundled_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("render", "flow", "lung"):
        (tmp_path / name).mkdir()
    assert hub.system_of("render").name == "render"
    assert hub.system_of("flow").name == "flow"
    with pytest.raises(
        InputError, match=r"lung: found a system that has no bundled weights; expected a run folder of it"
    ):
        hub.system_of("lung")
    (tmp_path / "flow" / "config.yaml").write_text("system: lung\nconfig: {}\n")
    assert hub.system_of("flow").name == "lung"
    assert main(["inject", "missing.nii.gz", "--with", "render", "--auto", "1", "--out", "x"]) == 2
