"""What `synthorax inject` and `erase` share: flags of the method that they name, and the scan as it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from pydantic import create_model

from synthorax.cli.flags import meanings, value_of, with_options
from synthorax.cli.options import parse_places
from synthorax.hub import able, system_of, who
from synthorax.io.atomic import claiming
from synthorax.io.scans import Scan, read_scan
from synthorax.io.walk import listed
from synthorax.makers import Options, Role
from synthorax.screen import warn

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
