"""The examples in docstrings, run as they stand in a folder with a scan, `chest.nii.gz`, and a store, `store`."""

import doctest
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import synthorax as sx
from synthorax.io.images import write_image
from tests.helpers.stores import cases, store_of

SOURCE = Path(sx.__file__).parent
WITH_EXAMPLES = sorted(path for path in SOURCE.rglob("*.py") if ">>> " in path.read_text())
TYPES = ["Nodule", "NoduleAttributes", "PatchDataset", "PatchSpec", "Volume"]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, chest):
    made = tmp_path_factory.mktemp("examples")
    write_image(made / "chest.nii.gz", chest)
    store_of(made / "store", cases(2, size=32))
    return made


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_the_examples_of_a_module_give_what_they_say(path, folder, monkeypatch):
    monkeypatch.chdir(folder)
    name = ".".join(["synthorax", *path.relative_to(SOURCE).with_suffix("").parts])
    failed, tried = doctest.testmod(import_module(name))
    assert tried
    assert not failed  # pytest shows what doctest printed


@pytest.mark.parametrize("name", TYPES)
def test_a_public_type_is_had_from_the_package_and_has_an_example(name):
    assert isinstance(getattr(sx, name), type)
    assert f"sx.{name}(" in getattr(sx, name).__doc__


def test_types_of_scans_and_nodules_load_no_torch():
    code = "import sys, synthorax as sx; sx.Volume, sx.Nodule, sx.PatchSpec; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "synthorax.patch" in done.stdout.split()
    assert not set(done.stdout.split()) & {"torch", "SimpleITK", "scipy", "cyclopts"}
