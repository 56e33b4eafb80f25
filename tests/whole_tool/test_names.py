"""A name has one meaning: it is defined in one module only, and does not hide a module of its package."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "synthorax"
OF_EVERY_SYSTEM = {
    "ABOUT_PRESETS",
    "CORE_SECONDS",
    "CPU_PRESET",
    "Config",
    "FLAGS",
    "Options",
    "PRESETS",
    "System",
    "TrainingOptions",
}
"""Names by which the registry finds the parts of a system's package (`docs/extending.md`)."""
OF_EVERY_FORMAT = {"read_header", "read_mark", "write"}
"""Functions that do one thing for each file format or layout, in the format's module."""
OF_EVERY_PACKAGE = {"training"}
"""The function by which the registry makes a system's training."""
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


def public_functions(module: ast.Module) -> list[str]:
    return [node.name for node in module.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]


def imports(module: ast.Module, name: str) -> bool:
    """Whether a module imports another, or something of it, anywhere."""
    inside, _, last = name.rpartition(".")
    return any(
        node.module == name or (node.module == inside and any(found.name == last for found in node.names))
        for node in ast.walk(module)
        if isinstance(node, ast.ImportFrom)
    )


def test_no_public_function_has_the_name_of_another():
    """Verbs aside: a function of `cli` is a command, called by its verb; one of `api` calls the room's of that name."""
    modules = {
        ".".join(["synthorax", *path.relative_to(SOURCE).with_suffix("").parts]): ast.parse(path.read_text())
        for path in SOURCE.rglob("*.py")
        if path.relative_to(SOURCE).parts[0] != "cli"
    }
    defined_in = defaultdict(set)
    for where, module in modules.items():
        for name in public_functions(module):
            defined_in[name].add(where)
    several = {}
    for name, where in defined_in.items():
        verbs = {module for module in where if module.startswith("synthorax.api.")}
        called = {one for one in where - verbs if any(imports(modules[verb], one) for verb in verbs)}
        if len(where - called) > 1 or len(called) > 1:
            several[name] = where
    allowed = OF_EVERY_FORMAT | OF_EVERY_PACKAGE
    assert len(defined_in) > 500
    assert several.keys() == allowed, {name: where for name, where in several.items() if name not in allowed}
