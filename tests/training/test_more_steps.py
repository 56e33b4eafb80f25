"""A finished run gets more steps; for other changes one line says how to continue."""

import shlex

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
    said = "a run with steps 20; expected steps 6, as requested; --set steps=20, or more, resumes this run"
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
    said = "a run with batch_size 8; expected batch_size 4, as requested; --set batch_size=8 resumes"
    with pytest.raises(InputError, match=said):
        opened(tmp_path / "run", batch_size=4)


def refusal(folder, data="f", on="the store luna", config=CONFIG, **about):
    """Return what opening a run of ac-wgan's preset smoke on the store luna for another request is refused with."""
    asked = {"system": "ac-wgan", "preset": "smoke", "seed": 0, "on": "the store luna", "config": CONFIG}
    RunFolder.open(folder, asked, {"fingerprint": "f"})
    with pytest.raises(InputError) as refused:
        RunFolder.open(folder, asked | {"on": on, "config": config} | about, {"fingerprint": data})
    return str(refused.value)


def test_another_system_is_told_first_then_the_preset_then_the_store(tmp_path):
    run, other = tmp_path / "run", CONFIG.model_copy(update={"batch_size": 8})
    begins = f"{run}: found a run of ac-wgan, preset smoke, on the store luna; expected "
    else_ = {"data": "g", "on": "the store lidc", "config": other}
    assert refusal(run, system="class-aware", preset="compact", **else_).startswith(begins + "a run of class-aware, as")
    preset = refusal(run, preset="compact", **else_)
    assert preset.startswith(
        begins + "preset compact, as requested; --preset smoke with the run's own settings (--config"
    )
    store = refusal(run, **else_)
    assert store.startswith(begins + "the store lidc, as requested; --data with the store luna resumes this run")
    changed = refusal(run, data="g")
    assert changed.startswith(begins + "the store luna as it was when the run began; it has changed since")


def test_all_settings_that_differ_are_in_one_line_and_following_it_resumes(tmp_path):
    from synthorax.cli.options import parse_settings
    from synthorax.training.config import choose

    run = tmp_path / "run"
    opened(run, batch_size=8, alpha_end=2.5, betas=(0.25, 0.75))
    with pytest.raises(InputError) as refused:
        opened(run, seed=3)
    said = str(refused.value)
    assert "a run with alpha_end 2.5, batch_size 8, betas [0.25, 0.75], seed 0; expected alpha_end 10.0, ba" in said
    words = shlex.split(said.split("as requested; ")[1].split(" resumes this run")[0])
    assert words[-2:] == ["--seed", "0"]
    chosen = choose(PRESETS, "smoke", parse_settings(words[1:-2:2], None))
    RunFolder.open(run, {"system": "ac-wgan", "seed": 0, "config": chosen}, {"fingerprint": "f"})


def test_a_setting_that_no_longer_exists_is_told_without_advice_that_fails(tmp_path):
    run = tmp_path / "run"
    opened(run)
    noted = yaml.safe_load((run / "config.yaml").read_text())
    noted["config"]["gone"] = 1
    (run / "config.yaml").write_text(yaml.safe_dump(noted))
    with pytest.raises(InputError, match="a run with gone 1; expected gone none, as requested; to train its weights"):
        opened(run)


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
        (run, 0, "more_steps: found 0"),
    ]:
        with pytest.raises(InputError, match=said):
            with_more_steps(folder, more)
    (run / "state.pt").write_bytes(b"PK")
    with pytest.raises(InputError, match="a state that cannot be loaded"):
        with_more_steps(run, 5)
    (run / "config.yaml").write_text("config: {iterations: 3}\n")
    with pytest.raises(InputError, match="no number of steps"):
        with_more_steps(run, 5)
