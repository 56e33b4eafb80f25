"""What `synthorax inject` and `erase` share: flags of their method, the scan as it is read, what came of a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from json import dumps
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from pydantic import create_model

from synthorax.cli.flags import meanings, value_of, with_options
from synthorax.cli.options import parse_places
from synthorax.editing.cases import EditedFolder
from synthorax.errors import InputError
from synthorax.hub import able, system_of, who
from synthorax.io.atomic import claiming
from synthorax.io.mappings import read_mapping
from synthorax.io.scans import Scan, read_scan
from synthorax.io.walk import listed
from synthorax.makers import Options, Role
from synthorax.provenance import MANIFEST
from synthorax.screen import say, warn

Several = Annotated[list[str] | None, Parameter(negative="", allow_leading_hyphen=True)]
"""An option that may be given several times."""


def with_method(
    verb: Callable[..., int], arguments: Sequence[str], role: Role, default: str = ""
) -> Callable[..., int]:
    """Return a verb with the flags of the methods that its arguments name after `--with`.

    Of several methods it has the flags that all of them have. A method that is not known gives it the general flags
    alone, and the verb itself tells of it.

    Args:
        default: the method where none is named.
    """
    named = value_of("--with", arguments, default)
    methods = named_methods(named)
    if not methods or not all(one in able((role,)) or Path(one).exists() for one in methods):
        return with_options(verb, Options, named or "a method")
    entries = [system_of(one) for one in methods]
    if len(entries) == 1:
        return with_options(verb, entries[0].options, entries[0].name, epilogue=_others(role, entries[0].name))
    return with_options(verb, _shared([entry.options for entry in entries]), " and ".join(methods))


def named_methods(text: str) -> list[str]:
    """The methods that a text names: one, or several with commas between them; an existing path is one."""
    return [text] if text and Path(text).exists() else [part.strip() for part in text.split(",") if part.strip()]


def _shared(options: Sequence[type[Options]]) -> type[Options]:
    """A class of the options that several classes have alike."""
    first = options[0]
    fields: dict[str, Any] = {
        name: (field.annotation, field)
        for name, field in first.model_fields.items()
        if all(name in one.model_fields and one.model_fields[name].annotation == field.annotation for one in options)
    }
    texts = meanings(first)
    for name, (_, field) in fields.items():
        field.description = field.description or texts.get(name)
    return create_model("SharedOptions", __base__=Options, **fields)


def _others(role: Role, shown: str) -> str:
    """Which methods there are, and that the flags of others may be others."""
    return f"Methods beside {shown}: {who((role,), but=shown)}. The flags of each are told by `--with METHOD --help`."


@contextmanager
def scan_to_edit(
    scan: Path,
    out: Path,
    *,
    beside: Iterable[object],
    at: Sequence[str] | None,
    voxel: Sequence[str] | None,
    series: str | None,
    force: bool,
    overwrite: bool,
) -> Iterator[tuple[Scan, list[list[float]]]]:
    """Claim the folder to write, read a scan as it is stored, and give it with the places of `--at` and `--voxel`.

    Files that were left out beside the scan are told on the screen.

    Args:
        beside: whatever else is read; paths among it are kept from being overwritten.

    Yields:
        The scan and the places (x, y, z) in world millimetres, LPS.

    Raises:
        InputError: places that are not three numbers, no CT in HU, or a folder that is not ours to write.
    """
    points, indices = parse_places(at, "--at", "X,Y,Z"), parse_places(voxel, "--voxel", "I,J,K")
    sources = [Path(path) for path in (scan, *beside) if isinstance(path, str | Path)]
    with claiming(out, overwrite=overwrite, sources=sources):
        read = read_scan(scan, series, any_values=force, as_stored=True)
        if read.dicom is not None and read.dicom.left_out:
            warn(f"left out {listed(read.dicom.left_out)}")
        yield read, points + [read.ct.to_world(index[::-1]).tolist() for index in indices]


def refuse_given(options: Mapping[str, object], where: str, expected: str) -> None:
    """Refuse options that do not go with what is edited.

    Args:
        options: by their flags; those that are empty were not given.
        where: what they were given with.

    Raises:
        InputError: the first that was given.
    """
    for option, value in options.items():
        if value:
            raise InputError(option, f"given with {where}", expected)


def tell_folder(made: EditedFolder, json: bool) -> int:
    """Tell what became of a folder of scans; returns the exit code."""
    for note in made.notes:
        warn(note)
    if json:
        print(dumps(read_mapping(made.out / MANIFEST), indent=1))
    else:
        failed = f"; {_counted(len(made.failed), 'scan')} failed, as the warnings tell" if made.failed else ""
        say(f"{made.out}: {_counted(len(made.cases), 'scan')}, {_counted(made.nodules, 'nodule')}{failed}")
    return 0


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
