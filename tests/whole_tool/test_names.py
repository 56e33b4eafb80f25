"""One name stands for one thing: no constant, class or type of the package is defined in two modules."""

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
