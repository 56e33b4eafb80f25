"""A fault of another package's system is told before its harm, by the package's name."""

import sys

import pytest

from synthorax.cli import main
from synthorax.registry import registry
from tests.helpers.plugins import install_toy
from tests.helpers.stores import cases, store_of

pytestmark = pytest.mark.usefixtures("one_thread")

SMOKE = ("--preset", "smoke", "--device", "cpu")


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A function that installs the toy of docs/extending.md with a change of a module, for one test."""

    def put(**changes):
        install_toy(tmp_path / "packages", **changes)
        registry.cache_clear()

    (tmp_path / "packages").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "packages")
    yield put
    for name in [name for name in sys.modules if name.split(".")[0] == "toy"]:
        del sys.modules[name]
    registry.cache_clear()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """The folder of a store of cubes."""
    return store_of(tmp_path_factory.mktemp("faults") / "store", cases(4)).path


def test_a_system_of_another_name_than_its_entrys_is_refused_before_it_is_trained(toy, store, tmp_path, capsys):
    toy(system=('name = "toy"', 'name = "tyo"'))
    assert main(["train", "toy", "--data", f"{store}", "--out", f"{tmp_path}/run", *SMOKE]) == 2
    said = "synthorax: system toy: found a System named 'tyo'; expected 'toy', the name of its entry"
    assert capsys.readouterr().err.strip() == said
    assert not (tmp_path / "run").exists()
