"""Draw the rooms of the package and their imports: docs/architecture.svg.

    python scripts/architecture_picture.py             # or `make architecture`
    python scripts/architecture_picture.py --check     # exit code 1 if the picture is not up to date

The rooms and their order are the layers of pyproject.toml, which import-linter enforces. The text of a room is
the first sentence of its docstring; a dot is an import in the code.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from textwrap import shorten

import grimp

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "architecture.svg"
FLOORS = {
    "cli": "Verbs",
    "studies": "Experiments",
    "systems": "Systems",
    "hub": "Learning",
    "datasets": "Cases, edits",
    "phantom": "Bodies, shapes",
    "parallel": "Files",
    "registry": "The joint",
    "nodule": "Ground",
}
"""Names of the floors, by the highest room of each."""
JOINT = "The joint"
ROW, COLUMN = 20, 15
"""Pixels of a room's row and of its column in the table of imports."""
FLOOR_X, ROOM_X, TEXT_X, TABLE_X = 12, 112, 206, 500
"""Pixels from the left at which the floors, the rooms, their docstrings and the table of imports begin."""
TOP = 96
"""Pixels above the first room."""
CHARACTER = 6.4
"""Width in pixels of a character of a docstring."""
INK, FAINT, LINE, PLAIN, TORCH, HIGHLIGHT = "#1f2933", "#5f6c7b", "#d9dee5", "#4a6fa5", "#c8622d", "#fff3d1"


@dataclass(frozen=True)
class Room:
    """A module or package directly below `synthorax`.

    Attributes:
        floor: name of its floor.
        holds: first sentence of its docstring.
        imports: other rooms that its modules import, anywhere in their code.
        uses_torch: whether one of its modules imports torch itself.
    """

    name: str
    floor: str
    holds: str
    imports: frozenset[str]
    uses_torch: bool


def rooms_of(root: Path) -> list[Room]:
    """Return the rooms of a checkout, highest first.

    Raises:
        ValueError: a floor begins with a room that is not a layer.
    """
    contracts = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = [name for contract in contracts if contract["type"] == "layers" for name in contract["layers"]]
    names = [layer.removeprefix("synthorax.") for layer in layers]
    if unknown := sorted(FLOORS.keys() - set(names)):
        raise ValueError(f"FLOORS begins a floor with {', '.join(unknown)}, which pyproject.toml has no layer for")
    imports: dict[str, set[str]] = {name: set() for name in names}
    graph = grimp.build_graph("synthorax", include_external_packages=True, cache_dir=None)
    for module in graph.modules:
        if (room := _room(module)) in imports:
            imports[room] |= set(map(_room, graph.find_modules_directly_imported_by(module)))
    floor = ""
    made = []
    for name in names:
        floor = FLOORS.get(name, floor)
        others = frozenset(imports[name] & set(names) - {name})
        made.append(Room(name, floor, _holds(root / "src" / "synthorax" / name), others, "torch" in imports[name]))
    return made


def _room(module: str) -> str:
    """Return the room of a module; for a module of another package, that package."""
    package, *below = module.split(".")
    return (below[0] if below else "") if package == "synthorax" else package


def _holds(place: Path) -> str:
    """Return the first sentence of a room's docstring."""
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    text = ast.get_docstring(ast.parse(file.read_text())) or ""
    return re.split(r"\.(?:\s|$)", " ".join(text.split()), maxsplit=1)[0].replace("`", "")


def svg(rooms: Sequence[Room]) -> str:
    """Return the picture: a row for each room, alternately shaded floors, a dot in the column of each imported room."""
    width, height = TABLE_X + COLUMN * len(rooms) + 24, TOP + ROW * len(rooms) + 34
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="DejaVu Sans, Verdana, sans-serif" font-size="11" fill="{INK}">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        *_floors(rooms, width),
        *(line for i, room in enumerate(rooms) for line in _row(i, room, rooms)),
        *_legend(height),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _floors(rooms: Sequence[Room], width: int) -> Iterator[str]:
    floors: dict[str, list[int]] = {}
    for i, room in enumerate(rooms):
        floors.setdefault(room.floor, []).append(i)
    for number, (name, rows) in enumerate(floors.items()):
        y, high = TOP + ROW * rows[0], ROW * len(rows)
        fill = HIGHLIGHT if name == JOINT else "#f5f7fa" if number % 2 == 0 else "white"
        yield f'<rect x="0" y="{y}" width="{width}" height="{high}" fill="{fill}"/>'
        if name == JOINT:  # its columns too, as everything that makes voxels meets there
            x = TABLE_X + COLUMN * rows[0]
            yield f'<rect x="{x}" y="{TOP}" width="{COLUMN * len(rows)}" height="{y - TOP}" fill="{fill}"/>'
        yield _text(FLOOR_X, y + 14, name, weight="bold")


def _row(i: int, room: Room, rooms: Sequence[Room]) -> Iterator[str]:
    y, color = TOP + ROW * i, TORCH if room.uses_torch else PLAIN
    yield f'<line x1="{ROOM_X}" y1="{y}" x2="{TABLE_X + COLUMN * len(rooms)}" y2="{y}" stroke="{LINE}"/>'
    yield f'<rect x="{ROOM_X}" y="{y + 2}" width="86" height="{ROW - 4}" rx="3" fill="{color}"/>'
    yield _text(ROOM_X + 43, y + 14, room.name, color="white", anchor="middle", weight="bold")
    x = TABLE_X + COLUMN * i  # left of it the row has no dots
    yield _text(TEXT_X, y + 14, _fitting(room.holds, int((x - TEXT_X) / CHARACTER)), color=FAINT)
    yield (
        f'<text transform="translate({x + 10} {TOP - 6}) rotate(-60)" font-size="10" fill="{color}">{room.name}</text>'
    )
    yield f'<rect x="{x + 2}" y="{y + 4}" width="{COLUMN - 4}" height="{ROW - 8}" rx="2" fill="{LINE}"/>'
    for column, other in enumerate(rooms):
        if other.name in room.imports:
            title = f"<title>{room.name} imports {other.name}</title>"
            center = f'cx="{TABLE_X + COLUMN * column + COLUMN / 2:g}" cy="{y + ROW / 2:g}"'
            yield f'<circle {center} r="3.6" fill="{color}">{title}</circle>'


def _fitting(sentence: str, characters: int) -> str:
    """Return a sentence, or as many of its clauses as fit."""
    if len(sentence) <= characters:
        return sentence
    ends = [match.start() for match in re.finditer(r"[,;:] ", sentence) if match.start() <= characters]
    return sentence[: ends[-1]] if ends else shorten(sentence, characters, placeholder=" ...")


def _legend(height: int) -> Iterator[str]:
    yield _text(FLOOR_X, 24, "The rooms of synthorax, and who imports whom", size=15, weight="bold")
    yield _text(
        FLOOR_X, 44, "A room imports only from rooms below it: every dot lies right of its row's grey box.", color=FAINT
    )
    yield _text(FLOOR_X, 60, "Row: what a room needs. Column: who needs it.", color=FAINT)
    y = height - 12
    for x, color, text in ((ROOM_X, PLAIN, "imports no torch itself"), (ROOM_X + 190, TORCH, "imports torch")):
        yield f'<rect x="{x}" y="{y - 10}" width="12" height="12" rx="2" fill="{color}"/>'
        yield _text(x + 18, y, text, color=FAINT)


def _text(
    x: int, y: int, text: str, *, color: str = INK, size: int = 11, anchor: str = "start", weight: str = "normal"
) -> str:
    style = f'font-size="{size}" fill="{color}" text-anchor="{anchor}" font-weight="{weight}"'
    return f'<text x="{x}" y="{y}" {style}>{escape(text)}</text>'


def main() -> int:
    """Write the picture or check it, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if the picture is out of date")
    made = svg(rooms_of(ROOT))
    if not parser.parse_args().check:
        PICTURE.write_text(made)
        return 0
    if PICTURE.read_text() != made:
        print(f"{PICTURE.name} is not the picture of this tree; make architecture", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
