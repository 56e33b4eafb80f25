"""A finished run gets more steps; what cannot change is one line with a way on."""

import pytest
import yaml

from synthorax.errors import InputError
from synthorax.systems.ac_wgan.config import PRESETS
from synthorax.training.run_folder import RunFolder

CONFIG = PRESETS["smoke"]


def opened(folder, seed=0, **settings):
    about = {"system": "ac-wgan", "seed": seed, "config": CONFIG.model_copy(update=settings)}
    return RunFolder.open(folder, about, {"fingerprint": "f"})


def test_a_run_gets_more_steps_and_says_so(tmp_path, capsys):
    opened(tmp_path / "run", steps=6)
    assert capsys.readouterr().err == ""
    opened(tmp_path / "run", steps=20)
    assert "20 steps in place of 6" in capsys.readouterr().err
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["config"]["steps"] == 20
    opened(tmp_path / "run", steps=20)
    assert capsys.readouterr().err == ""


def test_fewer_steps_are_refused_with_the_number_that_goes_on(tmp_path):
    opened(tmp_path / "run", steps=20)
    with pytest.raises(InputError, match=r"a run with config\.steps 20; expected 6, as asked; --set steps=20, or more"):
        opened(tmp_path / "run", steps=6)


@pytest.mark.parametrize("other", [{"batch_size": 8}, {"seed": 3}])
def test_with_more_steps_nothing_else_may_change(tmp_path, other):
    opened(tmp_path / "run", steps=6)
    with pytest.raises(InputError, match="--from this run and another --out train its weights further"):
        opened(tmp_path / "run", steps=20, **other)
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["config"]["steps"] == 6
