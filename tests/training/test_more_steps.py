"""A finished run gets more steps; for other changes one line says how to continue."""

import pytest
import torch
import yaml

from synthorax.errors import InputError
from synthorax.systems.ac_wgan.config import PRESETS
from synthorax.training.more_steps import with_more_steps
from synthorax.training.run_folder import RunFolder
from synthorax.training.same_run import HAD_STEPS

CONFIG = PRESETS["smoke"]


def opened(folder, seed=0, **settings):
    about = {"system": "ac-wgan", "seed": seed, "config": CONFIG.model_copy(update=settings)}
    return RunFolder.open(folder, about, {"fingerprint": "f"})


def test_a_run_gets_more_steps_and_says_so(tmp_path, capsys):
    opened(tmp_path / "run", steps=6)
    assert capsys.readouterr().err == ""
    opened(tmp_path / "run", steps=20)
    assert "20 steps instead of 6" in capsys.readouterr().err
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["config"]["steps"] == 20
    opened(tmp_path / "run", steps=20)
    assert capsys.readouterr().err == ""


def test_fewer_steps_are_refused_with_the_number_that_goes_on(tmp_path):
    opened(tmp_path / "run", steps=20)
    said = r"a run with config\.steps 20; expected 6, as requested; --set steps=20, or more, resumes this run"
    with pytest.raises(InputError, match=said):
        opened(tmp_path / "run", steps=6)


@pytest.mark.parametrize("other", [{"batch_size": 8}, {"seed": 3}])
def test_with_more_steps_nothing_else_may_change(tmp_path, other):
    opened(tmp_path / "run", steps=6)
    with pytest.raises(InputError, match="with other settings, use --from this run and another --out"):
        opened(tmp_path / "run", steps=20, **other)
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["config"]["steps"] == 6


def test_a_setting_that_differs_is_told_with_the_option_that_goes_on(tmp_path):
    opened(tmp_path / "run", batch_size=8)
    with pytest.raises(
        InputError, match=r"a run with config\.batch_size 8; expected 4, as requested; --set batch_size=8 resumes"
    ):
        opened(tmp_path / "run", batch_size=4)


# --more-steps


def extended(folder, more):
    """Add steps to a run, as the command does."""
    had, steps = with_more_steps(folder, more)
    about = {"system": "ac-wgan", "seed": 0, HAD_STEPS: had, "config": CONFIG.model_copy(update={"steps": steps})}
    RunFolder.open(folder, about, {"fingerprint": "f"})
    return steps


def has_done(folder, **done):
    """Write a state into a run folder."""
    torch.save({"step": sum(done.values()), "done": done}, folder / "state.pt")


@pytest.fixture
def run(tmp_path):
    opened(tmp_path / "run", steps=100)
    return tmp_path / "run"


def test_a_finished_run_goes_on_for_as_many_steps_and_so_again_once_those_are_done(run):
    has_done(run, gan=100)
    assert extended(run, 20) == 120
    has_done(run, gan=120)
    assert extended(run, 20) == 140


@pytest.mark.parametrize("done", [100, 101, 119])
def test_a_command_that_was_killed_and_is_given_again_adds_nothing(run, done):
    has_done(run, gan=100)
    extended(run, 20)
    has_done(run, gan=done)
    assert extended(run, 20) == 120
    opened(run, steps=120)  # the same run by its number of steps
    assert extended(run, 20) == 120


def test_an_unfinished_run_gets_them_beyond_those_it_was_made_for(run):
    assert extended(run, 20) == 120
    has_done(run, gan=40)
    assert extended(run, 20) == 120


def test_steps_set_since_then_are_those_that_more_are_added_to(run):
    has_done(run, gan=100)
    extended(run, 20)
    opened(run, steps=500)
    assert extended(run, 20) == 520


def test_of_several_stages_the_last_one_tells_whether_a_run_is_finished(run):
    has_done(run, segmenter=300, gan=50)
    assert extended(run, 20) == 120
    has_done(run, segmenter=300, gan=110)
    assert extended(run, 20) == 120


def test_a_state_of_before_there_were_stages_has_one(run):
    torch.save({"step": 100}, run / "state.pt")
    extended(run, 20)
    torch.save({"step": 120}, run / "state.pt")
    assert extended(run, 20) == 140


def test_fewer_more_steps_than_are_done_already_are_refused(run):
    has_done(run, gan=100)
    extended(run, 20)
    has_done(run, gan=115)
    with pytest.raises(InputError, match=r"115 steps done, 100 of them before .*--more-steps 15 or more"):
        extended(run, 5)


def test_more_steps_without_a_run_or_of_a_damaged_one_are_one_line(run, tmp_path):
    for folder, more, said in [
        (tmp_path / "none", 5, "found no run; expected a run that has begun; --set steps=N"),
        (run, 0, "more steps: found 0"),
    ]:
        with pytest.raises(InputError, match=said):
            with_more_steps(folder, more)
    (run / "state.pt").write_bytes(b"PK")
    with pytest.raises(InputError, match="a state that cannot be loaded"):
        with_more_steps(run, 5)
    (run / "config.yaml").write_text("config: {iterations: 3}\n")
    with pytest.raises(InputError, match="no number of steps"):
        with_more_steps(run, 5)
