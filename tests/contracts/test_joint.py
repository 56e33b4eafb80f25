"""Only a system's own package and its entry in the registry name the system."""

import ast
import re
from pathlib import Path

import pytest

import synthorax
from synthorax.registry import BUILT_IN

SOURCE = Path(synthorax.__file__).parent
STUDIED = "lung"
"""The system with a study and a demo of its own."""
OF_PYYAML = "default_flow_style"
"""A parameter of PyYAML whose name holds that of a system."""
ANY_OF_ITS_KIND = {"eraser", "injector"}
"""Words for any method that does the same: other code may say them, but imports no package and names no model."""
SYSTEMS = [entry for entry in BUILT_IN if entry.package.startswith("synthorax.systems.") and entry.name != STUDIED]


@pytest.mark.parametrize("entry", SYSTEMS, ids=lambda entry: entry.name)
def test_no_file_outside_a_systems_package_names_it_but_the_registry(entry):
    own = SOURCE.joinpath(*entry.package.split(".")[1:])
    name = re.compile(rf"(?<![a-z]){entry.name.replace('-', '[-_]?')}(?![a-z])", re.IGNORECASE)
    if entry.name in ANY_OF_ITS_KIND:
        name = re.compile(rf"""['"]{entry.name}['"]|systems\.{entry.name}""")
    others = [file for file in SOURCE.rglob("*.py") if own not in file.parents and name.search(code_of(file))]
    assert [file.relative_to(SOURCE).as_posix() for file in others] == ["registry.py"]


def code_of(file):
    """The code of a module without its docstrings, whose examples may name a model, and without comments."""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            node.value = ast.Constant("")
    return ast.unparse(tree).replace(OF_PYYAML, "")


def test_every_package_of_systems_has_a_line_in_the_registry():
    packages = {f"synthorax.systems.{path.parent.name}" for path in (SOURCE / "systems").glob("*/__init__.py")}
    assert packages == {entry.package for entry in BUILT_IN if entry.package.startswith("synthorax.systems.")}
