"""Systems of other packages: compatible ones work, others are named, and no other system is affected."""

import sys

import pytest

from synthorax import hub
from synthorax.api.machine import _systems
from synthorax.cli import main
from synthorax.errors import InputError
from synthorax.registry import API, BUILT_IN, registry
from tests.helpers.plugins import install

ENTRY = """
from synthorax.registry import Entry
entry = Entry({name!r}, {package!r}, frozenset({{"makes patches"}}), {data!r}, "Toy.", api={api})
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install packages for one test; the registry looks anew before and after it."""

    def put(package, entries, **modules):
        install(tmp_path, package, modules, entries)
        registry.cache_clear()
        return registry()

    monkeypatch.syspath_prepend(tmp_path)
    known = set(sys.modules)
    registry.cache_clear()
    yield put
    for name in set(sys.modules) - known:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]
    registry.cache_clear()


def entry_text(name="toy", package="toys", data="", api=API):
    return ENTRY.format(name=name, package=package, data=data, api=api)


def test_a_system_of_another_package_is_found_and_told_by_its_distribution(installed):
    found = installed("toys", {"toy": "toys.entry:entry"}, entry=entry_text())
    assert list(found.entries) == [*(entry.name for entry in BUILT_IN), "toy"]
    assert found["toy"].distribution == "toys"
    assert not found.broken


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("import nothing_of_this_name", "toys.entry:entry", "toys.entry:entry does not load (ModuleNotFoundError"),
        ("raise SystemError('of its own')", "toys.entry:entry", "does not load (SystemError: of its own)"),
        ("entry = 1", "toys.entry:entry", "is of type int, not a synthorax.registry.Entry"),
        ("", "toys.entry:gone", "does not load (AttributeError"),
        (entry_text(name="other"), "toys.entry:entry", "an entry named 'other' under the entry point 'toy'"),
        ("import sys; sys.exit('no licence')", "toys.entry:entry", "does not load (SystemExit: no licence)"),
        (entry_text(data="scans"), "toys.entry:entry", "unknown training data 'scans'"),
        (entry_text().replace("makes patches", "makes coffee"), "toys.entry:entry", "the role 'makes coffee'"),
        (entry_text(api=API + 1), "toys.entry:entry", f"made for contract {API + 1}, but this synthorax has {API}"),
    ],
    ids=["import", "error", "type", "object", "name", "exit", "data", "role", "contract"],
)
def test_a_system_that_does_not_load_is_named_with_the_reason_and_the_others_go_on(text, place, reason, installed):
    installed("sound", {"sound": "sound.entry:entry"}, entry=entry_text("sound", "sound"))
    found = installed("toys", {"toy": place}, entry=text)
    assert set(found.entries) == {entry.name for entry in BUILT_IN} | {"sound"}
    assert found.broken["toy"].startswith("toys: ")
    assert reason in found.broken["toy"]
    with pytest.raises(InputError, match="toys: "):
        found["toy"]


def test_a_built_in_name_stays_this_packages_and_the_clash_is_told(installed):
    found = installed("toys", {"ac-wgan": "toys.entry:entry"}, entry=entry_text("ac-wgan"))
    assert found["ac-wgan"].package == "synthorax.systems.ac_wgan"
    assert found.broken["ac-wgan"] == "toys has a system of this name too; the system of synthorax is used"


def test_of_two_packages_with_a_system_of_one_name_none_is_used_and_both_are_named(installed, capsys):
    installed("toys", {"toy": "toys.entry:entry"}, entry=entry_text())
    found = installed("balls", {"toy": "balls.entry:entry"}, entry=entry_text(package="balls"))
    said = "the packages balls and toys each have a system of this name; uninstall all but one"
    assert found.broken == {"toy": said}
    assert main(["train", "toy", "--data", "store", "--out", "run"]) == 2
    told = f"synthorax: system toy: found {said}; expected a system that can be used, see docs/extending.md"
    assert capsys.readouterr().err.strip() == told


@pytest.mark.parametrize(
    ("config", "reason"), [("import gone_too", "toys.config does not load"), ("", r"toys\.config: found no PRESETS")]
)
def test_a_part_that_is_missing_or_does_not_load_names_the_package_to_update(config, reason, installed):
    found = installed("toys", {"toy": "toys.entry:entry"}, entry=entry_text(), config=config)
    with pytest.raises(InputError, match=f"{reason}.*update toys"):
        _ = found["toy"].presets


@pytest.mark.parametrize(
    ("noted", "said"),
    [
        (
            "distribution: toys\nversion: '1.0'\n",
            r"system 'toy'; expected the package toys 1\.0, which .* \(install it from where you or",
        ),
        ("", "lung or ac-wgan or .* update it for others"),
    ],
    ids=["of a package", "of a later synthorax"],
)
def test_a_run_of_a_system_that_is_not_there_names_the_package_to_install(noted, said, installed, tmp_path):
    (tmp_path / "config.yaml").write_text(f"system: toy\n{noted}config: {{}}\n")
    (tmp_path / "weights.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=said):
        hub.load(tmp_path)


def test_an_entry_point_of_a_wrong_name_is_told_where_its_system_is_missed(installed, tmp_path, capsys):
    installed("toys", {"toyy": "toys.entry:entry"}, entry=entry_text(data="store"))
    why = "toyy (toys: an entry named 'toy' under the entry point 'toyy')"
    for arguments in (["doctor", "--system", "toy"], ["train", "toy", "--data", "store", "--out", "run"]):
        assert main(arguments) == 2
        assert capsys.readouterr().err.strip().endswith(f"; not usable: {why}")
    (tmp_path / "config.yaml").write_text("system: toy\ndistribution: toys\nversion: '1.0'\nconfig: {}\n")
    (tmp_path / "weights.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=r"toys 1\.0, which has that system \(it is installed, but") as error:
        hub.load(tmp_path)
    assert f"its entry point is not usable: {why})" in str(error.value)


def test_a_run_of_another_packages_system_is_not_taken_for_one_of_the_same_name_here(installed, tmp_path):
    (tmp_path / "config.yaml").write_text("system: ac-wgan\ndistribution: toys\nconfig: {}\n")
    (tmp_path / "weights.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="the package toys, which has that system"):
        hub.load(tmp_path)


def test_models_and_doctor_name_a_system_that_cannot_be_used(installed, capsys):
    installed("toys", {"toy": "toys.entry:entry", "torn": "toys.torn:entry"}, entry=entry_text(), torn="1 / 0")
    assert main(["models"]) == 0
    out, err = capsys.readouterr()
    assert "ac-wgan" in out
    assert len(err.splitlines()) == 1
    assert "the system torn cannot be used: toys: toys.torn:entry does not load (ZeroDivisionError" in err
    notes = {finding.name: finding.found for finding in _systems() if finding.state == "note"}
    assert notes["system torn"].startswith("toys: toys.torn:entry does not load")
    assert notes["system toy"].startswith("toys: toy: found toys.config does not load")


TRAINED = """
from pathlib import Path
from pydantic import BaseModel
from synthorax import makers

class Config(BaseModel):
    \"\"\"Settings.

    Attributes:
        steps: of the toy.
    \"\"\"

    steps: int = 3

class TrainingOptions(makers.Options):
    \"\"\"Options.

    Attributes:
        colour: of the toy.
    \"\"\"

    colour: str = "red"

PRESETS = {"small": Config(), "large": Config(steps=30)}
"""


def test_a_system_of_another_package_is_trained_by_the_same_verb_with_its_own_flags_and_settings(installed, capsys):
    installed("toys", {"toy": "toys.entry:entry"}, entry=entry_text(data="store"), config=TRAINED)
    assert main(["train", "--help"]) == 0
    assert "toy Toy." in " ".join(capsys.readouterr().out.split())
    assert main(["train", "toy", "--preset", "large", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    flag = "--colour STR Of the toy. [default: red]"
    for said in ("choices: small, large", "[default: small]", flag, "steps=30: of the toy."):
        assert said in text


def test_a_broken_system_is_one_warning_in_the_list_and_one_line_where_it_is_named(installed, capsys):
    installed("broken", {"alchemy": "broken.entry:entry"}, entry="import nothing_of_this_name")
    assert main(["train", "--help"]) == 0
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert "warning: the system alchemy cannot be used: broken: broken.entry:entry does not load" in printed.err
    assert "lung" in printed.out
    assert main(["train", "alchemy"]) == 2
    printed = capsys.readouterr()
    assert "system alchemy: found broken: " in printed.err
    assert printed.err.count("\n") == 1
    assert main(["train", "lung", "--help"]) == 0
    assert not capsys.readouterr().err


def test_a_trained_system_whose_configuration_does_not_load_is_one_line(installed, capsys):
    installed("toys", {"toy": "toys.entry:entry"}, entry=entry_text(data="store"), config="1 / 0")
    assert main(["train", "--help"]) == 0
    capsys.readouterr()
    assert main(["train", "toy", "--help"]) == 2
    assert "toys.config does not load (ZeroDivisionError: division by zero)" in capsys.readouterr().err
