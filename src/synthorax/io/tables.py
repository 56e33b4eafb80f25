"""Reading and writing tables as CSV, as spreadsheets and scripts write them: commas or semicolons, UTF-8 or UTF-16."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TextIO

from synthorax.errors import InputError
from synthorax.io.atomic import atomic_file
from synthorax.io.contents import what_is
from synthorax.io.header_text import quoted
from synthorax.io.limits import read_bounded

EXPECTED_CSV = "a CSV file with a header"
MOST_TABLE_BYTES = 2**27
"""Most bytes of a table; LUNA16's candidates take half of it."""
MOST_ROWS, MOST_COLUMNS, MOST_CELLS = 2_000_000, 10_000, 8_000_000
"""Largest table that is read. A cell takes some hundred bytes of memory; LUNA16's candidates are 755,000 rows."""
MOST_CELL = 2**17
"""Most characters of a cell."""
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""First bytes of a table in UTF-16."""
DECIMAL_COMMA = re.compile(r"[+-]?[0-9]*,[0-9]+(?:[eE][+-]?[0-9]+)?")
"""A number with a decimal comma."""
FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""Beginning of a cell that a spreadsheet would run as a formula; an apostrophe in front makes the cell text."""


MISSING = frozenset({"", "-", "--", "?", "n/a", "na", "nan", "null", "unknown"})
"""Texts, in lower case, that stand for a missing number or rating."""
MOST_FAULTS = 10
"""Rows with a fault that an error names at most."""


def read_table(path: Path, known: Collection[str] = ()) -> list[dict[str, str]]:
    """Read a CSV file with a header.

    Cells are separated by commas, or by semicolons or tabs if the header has no comma. With semicolons, numbers may
    have a decimal comma. Empty rows are left out, and so are empty columns at the end.

    Args:
        path: the file.
        known: columns that the caller reads. A column whose name differs from one of these only in capitals, spaces and
            punctuation, such as `Patient ID`, gets the known name.

    Returns:
        For each row, the text of the cells by the names of the columns.

    Raises:
        InputError: the file is not text, has no rows, rows of unequal length or a column twice, or is too large.
    """
    text = _decoded(path, read_bounded(path, MOST_TABLE_BYTES, EXPECTED_CSV))
    if text.count("\n") > MOST_ROWS:
        raise InputError(path, f"{text.count(chr(10))} lines", f"a table of at most {MOST_ROWS} rows")
    header_line = text[: text.find("\n") if "\n" in text else len(text)]
    delimiter = next((d for d in ",;\t" if d in header_line), ",")
    rows = _rows(path, text, delimiter)
    header = [name.strip() for name in next(rows, [])]
    while header and not header[-1]:
        header.pop()
    named = _known_names([name or f"column {i}" for i, name in enumerate(header, start=1)], known)
    if len(named) > MOST_COLUMNS:
        raise InputError(path, f"{len(named)} columns", f"a table of at most {MOST_COLUMNS} columns")
    if twice := [name for name, count in Counter(named).items() if count > 1]:
        raise InputError(path, f"the column {quoted(twice[0])} twice", "each column once")
    made = []
    for line, cells in enumerate(rows, start=2):
        if not any(cell.strip() for cell in cells):
            continue
        while len(cells) > len(named) and not cells[-1].strip():
            cells.pop()
        if len(cells) != len(named):
            raise InputError(path, f"{len(cells)} cells in line {line}", f"{len(named)} cells, as in the header")
        made.append({name: _cell(cell, delimiter) for name, cell in zip(named, cells, strict=True)})
        if len(made) * len(named) > MOST_CELLS:
            raise InputError(path, f"more than {MOST_CELLS} cells", "a smaller table")
    if not made:
        raise InputError(path, "no rows", f"{EXPECTED_CSV} and a row below it for each entry")
    return made


def _known_names(header: Sequence[str], known: Collection[str]) -> list[str]:
    """Return the names of a header, with the known name for each that is written differently."""
    of_plain = {_plain(name): name for name in known}
    taken, names = set(header), []
    for name in header:
        meant = of_plain.get(_plain(name), name)
        names.append(name if name in known or meant in taken else meant)
        taken.add(names[-1])
    return names


def _plain(name: str) -> str:
    """Return the letters and digits of a name, in lower case."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def misnamed_columns(columns: Iterable[str], known: Collection[str]) -> dict[str, str]:
    """Return the columns that are not known, but like a known one, which may be meant.

    >>> misnamed_columns(["image", "diameter", "age", "malignance"], ["image", "diameter_mm", "malignancy"])
    {'diameter': 'diameter_mm', 'malignance': 'malignancy'}
    """
    found = {}
    for name in columns:
        plain = _plain(name)
        meant = next((each for each in known if len(plain) > 3 and _plain(each).startswith(plain)), None)
        near = get_close_matches(name.lower(), list(known), 1, cutoff=0.8)
        if name not in known and (meant := meant or (near[0] if near else None)):
            found[name] = meant
    return found


def some_of(names: Sequence[str]) -> str:
    """Return the first `MOST_FAULTS` of some names, and the number of the others, as a text."""
    more = len(names) - MOST_FAULTS
    return ", ".join(names[:MOST_FAULTS]) + f" and {more} more" * (more > 0)


def known_cell(row: Mapping[str, str], name: str) -> str:
    """Return the text of a number or rating in a row; empty if there is none, or a text of `MISSING` in its place."""
    text = (row.get(name) or "").strip()
    return "" if text.lower() in MISSING else text


def check_rows(path: Path, faults: Sequence[tuple[int, str]], expected: str) -> None:
    """Refuse a table if rows of it have faults, which are named together.

    Args:
        path: the table.
        faults: line and fault of each row.
        expected: what was expected.

    Raises:
        InputError: there is a fault.
    """
    if faults:
        said = "; ".join(f"line {line}: {fault}" for line, fault in faults[:MOST_FAULTS])
        more = f"; and {len(faults) - MOST_FAULTS} more" if len(faults) > MOST_FAULTS else ""
        raise InputError(path, said + more, expected)


def write_table(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a table with the columns of its first row.

    Floats keep nine significant digits; None is an empty cell. Text that a spreadsheet would run as a formula gets an
    apostrophe in front, which `read_table` removes.

    Args:
        path: file to write.
        rows: name of a column -> value.

    Raises:
        OutputError: the file cannot be written.
    """
    with table_writer(path) as write:
        for row in rows:
            write(row)


def even_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return rows that each have the columns of all, in the order of their first occurrence; added cells are empty."""
    blank = dict.fromkeys((name for row in rows for name in row), "")
    return [{**blank, **row} for row in rows]


def table_text(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the text of the table that `write_table` writes, with line ends of one character."""
    stream = io.StringIO(newline="")
    write = _row_writer(stream, end="\n")
    for row in rows:
        write(row)
    return stream.getvalue() or "\n"


@contextmanager
def table_writer(path: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Write a table row by row, as `write_table` does; yields the function that writes a row.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic_file(path) as file, open(file, "w", newline="", encoding="utf-8", errors="backslashreplace") as stream:
        yield _row_writer(stream)
        if not stream.tell():
            stream.write("\r\n")


def _row_writer(stream: TextIO, end: str = "\r\n") -> Callable[[Mapping[str, Any]], None]:
    """Return the function that writes a row, and the header before the first row."""
    writer: csv.DictWriter[str] | None = None

    def write(row: Mapping[str, Any]) -> None:
        nonlocal writer
        if writer is None:
            writer = csv.DictWriter(stream, list(row), lineterminator=end)
            writer.writeheader()
        writer.writerow({key: _written(value) for key, value in row.items()})

    return write


def _written(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.9g}"
    if isinstance(value, str) and FORMULA.match(value) and not _is_number(value):
        return "'" + value
    return value


def _cell(text: str, delimiter: str) -> str:
    """Return the text of a cell without the apostrophe of `write_table`, its decimal comma replaced by a point."""
    if text.startswith("'") and FORMULA.match(text):
        return text[1:]
    return text.replace(",", ".") if delimiter == ";" and DECIMAL_COMMA.fullmatch(text.strip()) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _decoded(path: Path, content: bytes) -> str:
    """Return the text of a table; raises InputError with the kind of the file if it is not text."""
    try:
        text = content.decode("utf-16") if content.startswith(UTF16) else content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = what_is(path) or f"text that is not UTF-8 (byte {error.start})"
        raise InputError(path, found, f"{EXPECTED_CSV}; save it as `CSV UTF-8`") from error
    if "\0" in text:
        raise InputError(path, "zero bytes, which no table has", f"{EXPECTED_CSV}; save it as `CSV UTF-8`")
    if text.lstrip()[:64].lower().startswith(("<!doctype", "<html", "<?xml", "version https://git-lfs")):
        raise InputError(path, what_is(path), EXPECTED_CSV)
    return text


def _rows(path: Path, text: str, delimiter: str) -> Iterator[list[str]]:
    """Yield the cells of each line that is not empty."""
    csv.field_size_limit(MOST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        yield from (cells for cells in reader if cells)
    except csv.Error as error:
        raise InputError(path, f"line {reader.line_num}: {error}", EXPECTED_CSV) from error
