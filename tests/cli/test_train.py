"""`synthorax train SYSTEM`: every system has its own presets, options and settings in the help."""

import pytest

from synthorax.cli import main
from synthorax.cli.flags import setting_text
from synthorax.cli.options import parse_settings
from synthorax.makers import meanings
from synthorax.registry import registry
from tests.helpers.processes import loaded_by

TRAINED = [entry for entry in registry().entries.values() if entry.is_trained]
NAMES = [entry.name for entry in TRAINED]


def words(capsys, *arguments):
    """The help of a command, on one line."""
    assert main([*arguments, "--help"]) == 0
    return " ".join(capsys.readouterr().out.replace("│", " ").replace("•", " ").split())


def test_the_help_lists_every_system_that_is_trained_with_what_it_is(capsys):
    text = words(capsys, "train")
    for entry in TRAINED:
        assert f"{entry.name} {entry.help}" in text
    assert "render" not in text


@pytest.mark.parametrize("entry", TRAINED, ids=NAMES)
def test_the_help_of_a_system_has_its_presets_its_options_and_every_setting_with_its_meaning(entry, capsys):
    text = words(capsys, "train", entry.name)
    for preset, what in entry.about_presets.items():
        assert f"{preset}: {what}" in text
    for option in entry.training_options.model_fields:
        assert f"--{option.replace('_', '-')}" in text
    for name, meaning in meanings(entry.config).items():
        assert f"{name}=" in text
        assert " ".join(meaning.replace("`", "").split()) in text


@pytest.mark.parametrize("entry", TRAINED, ids=NAMES)
def test_every_preset_and_every_setting_of_a_system_says_what_it_is(entry):
    assert entry.about_presets.keys() == entry.presets.keys()
    assert meanings(entry.config).keys() == entry.config.model_fields.keys()
    assert meanings(entry.training_options).keys() == entry.training_options.model_fields.keys()


def test_settings_are_shown_as_the_preset_has_them(capsys):
    assert "steps=20000: " in words(capsys, "train", "ac-wgan")
    assert "steps=6: " in words(capsys, "train", "ac-wgan", "--preset", "smoke")


@pytest.mark.parametrize("entry", TRAINED, ids=NAMES)
def test_every_setting_can_be_given_as_the_help_shows_it(entry):
    for config in entry.presets.values():
        values = config.model_dump(mode="json")
        given = parse_settings([f"{name}={setting_text(value)}" for name, value in values.items()], None)
        assert entry.config.model_validate(given) == config


def test_no_torch_and_no_other_systems_configuration_is_loaded_for_a_help():
    configs = {f"{entry.package}.config" for entry in TRAINED}
    listed = loaded_by("train", "--help")
    assert "synthorax.registry" in listed
    assert not listed & {*configs, "torch"}
    one = loaded_by("train", "ac-wgan", "--help")
    assert one & configs == {"synthorax.systems.ac_wgan.config"}
    assert "torch" not in one
    assert "synthorax.registry" not in loaded_by("--help")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("train alchemy", f"system: found 'alchemy'; expected a system with weights to train: {', '.join(NAMES)}"),
        ("train render", "system: found 'render'; expected a system with weights to train"),
        ("train lung --data lidc --out new --nodules none", "--nodules: found 'none'; expected a valid integer"),
        ("train lung --data lidc --out new --nodules 0", "nodules: found 0; expected greater than 0"),
        ("train lung --data lidc --out new --layers 3x3", "setting layers: found '3x3'"),
        (
            "train ac-wgan --data s --out new --layers 3_3",
            "--layers: no option of ac-wgan; possible are --data",
        ),
        *(
            (f"train class-aware --data s --out new --preset smoke --set {setting}", f"setting {said}")
            for setting, said in (
                ("width=6", "width: found 6; expected a multiple of 4"),
                ("size=16,16,16", "size: found '16,16,16'; expected a list, such as [16, 16, 16]"),
                ("size=[16,16]", "size: found [16, 16]; expected a list, such as [16, 16, 16]"),
                ("size=[30,16,16]", "size: found (30, 16, 16); expected voxels divisible by 4"),
                ("shown=texture", "shown: found 'texture'; expected a list, such as [texture]"),
                ("shown=[roundness]", "shown.0: found 'roundness'; expected 'diameter_mm', 'texture'"),
                ("batchsize=3", "batchsize: found 3; expected an existing setting, such as batch_size or size"),
            )
        ),
        ("train class-aware --data nowhere --out new", "nowhere: found no store"),
        ("train ac-wgan --data s --out new --more-steps 5", "new: found no run; expected a run that has begun"),
        (
            "train lung --data lidc --out new --more-steps 5",
            "--more-steps: found given for lung, whose finished runs cannot",
        ),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments.split()) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not any(tmp_path.iterdir())
