"""The tests are in folders like those of the source, and no test file depends on another."""

import ast
import re
from pathlib import Path

import synthorax
from results_reliability import TOPICS

TESTS = Path(__file__).parents[1]
FILES = [file.relative_to(TESTS).as_posix() for file in sorted(TESTS.rglob("*.py"))]
OF_NO_ROOM = {"contracts", "golden", "whole_tool"}
A_TEST = re.compile(r"(^|\.)(test_\w+|conftest)($|\.)")


def imported(file):
    """Dotted names that a file imports: of modules, and of what is taken out of them."""
    for node in ast.walk(ast.parse((TESTS / file).read_text())):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module or ''}.{each.name}" for each in node.names)


def test_no_file_imports_a_file_of_tests():
    found = [f"{file} imports {name}" for file in FILES for name in imported(file) if A_TEST.search(name)]
    assert found == []


def test_every_folder_of_tests_is_a_package_of_the_source_or_of_no_room():
    source = Path(synthorax.__file__).parent
    folders = {Path(file).parent for file in FILES if Path(file).name.startswith("test_")}
    others = [folder for folder in folders if not (source / folder / "__init__.py").is_file()]
    assert {folder.parts[0] for folder in others} == OF_NO_ROOM


def test_every_test_file_of_the_page_on_reliability_is_there():
    named = {test.partition("::")[0] for topic in TOPICS for test in topic.tests}
    assert named <= set(FILES)
