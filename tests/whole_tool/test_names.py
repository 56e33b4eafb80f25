"""One name stands for one thing: none is defined in two modules, and none of a package hides a module of it."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "synthorax"
OF_EVERY_SYSTEM = {"Config", "PRESETS", "ABOUT_PRESETS", "Options", "TrainingOptions", "FLAGS", "System"}
"""Names by which the registry finds the parts of a system's package (`docs/extending.md`)."""
TYPE_VARIABLES = {"TypeVar", "ParamSpec"}
"""Type variables belong to the functions of their module and have no meaning beyond it."""


def defined(module: ast.Module) -> Iterator[str]:
    """Names of the constants, classes and type aliases at the top of a module."""
    for node in module.body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        value = getattr(node, "value", None)
        if isinstance(value, ast.Call) and getattr(value.func, "id", "") in TYPE_VARIABLES:
            continue
        for target in node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]:
            parts = ast.walk(target) if target else ()
            yield from (part.id for part in parts if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store))


def test_no_constant_class_or_type_is_defined_in_two_modules():
    modules = defaultdict(set)
    for path in sorted(SOURCE.rglob("*.py")):
        for name in defined(ast.parse(path.read_text())):
            if re.match("[A-Z]", name):
                modules[name].add(str(path.relative_to(SOURCE)))
    several = {name: where for name, where in modules.items() if len(where) > 1}
    assert len(modules) > 1000
    assert several.keys() <= OF_EVERY_SYSTEM, {n: w for n, w in several.items() if n not in OF_EVERY_SYSTEM}


def offered(package: ast.Module, inside: str) -> Iterator[str]:
    """Names that a package's `__init__.py` defines, imports from elsewhere than `inside`, or lists in `__all__`."""
    for node in ast.walk(package):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id
            if node.targets[0].id == "__all__":
                yield from ast.literal_eval(node.value)
        elif isinstance(node, ast.ImportFrom) and node.module not in (inside, "__future__"):
            yield from (name.asname or name.name for name in node.names)


def test_no_name_that_a_package_offers_hides_a_module_of_the_package():
    packages = sorted(SOURCE.rglob("__init__.py"))
    hidden = {}
    for init in packages:
        inside = ".".join(["synthorax", *init.parent.relative_to(SOURCE).parts])
        modules = {path.stem for path in init.parent.glob("*.py")} | {
            path.parent.name for path in init.parent.glob("*/__init__.py")
        }
        hidden[inside] = modules & set(offered(ast.parse(init.read_text()), inside))
    assert len(packages) > 20
    assert not any(hidden.values()), {name: found for name, found in hidden.items() if found}
