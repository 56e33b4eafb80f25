"""What `synthorax inject`, `erase` and `translate` share: a method's flags, reading a scan, reporting on a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from pydantic import create_model

from synthorax.api.edit_requests import read_scan_given, recorded_options
from synthorax.cli.attributes import asks_help
from synthorax.cli.flags import value_of, with_options
from synthorax.cli.options import FOLDER_FLAGS, NODULE_FLAGS, parse_places
from synthorax.editing.cases import EditedFolder
from synthorax.errors import InputError
from synthorax.hub import system_of, who
from synthorax.io.atomic import claiming
from synthorax.io.mappings import read_mapping
from synthorax.io.scans import Scan
from synthorax.io.walk import listed
from synthorax.makers import Options, Role, meanings
from synthorax.provenance import MANIFEST
from synthorax.screen import quantity, say, warn

Several = Annotated[list[str] | None, Parameter(negative="", allow_leading_hyphen=True, group=NODULE_FLAGS)]
"""Places of nodules, an option that may be repeated; negative numbers are allowed."""
OF_A_FOLDER = "--patient-from, which finds the patient of each scan; or one scan, by its path or --series"
"""What an error expects instead of `--patient` for a folder of scans."""


@Parameter(name="*", group=FOLDER_FLAGS)
@dataclass(kw_only=True, frozen=True)
class OfFolder:
    """Flags that apply to a folder of several scans.

    Parameters
    ----------
    patient_from
        How to find the patient of an image: auto, folder, name, or a regular expression; see `prepare scans --help`.
    workers
        Number of processes; by default one for each core.
    cluster
        Address of a Dask scheduler to use instead of processes here, such as tcp://host:8786.
    """

    patient_from: str = "auto"
    workers: int | None = None
    cluster: str | None = None

    def check_not_given(self) -> None:
        """Check that none of the flags was given, since the input is one scan.

        Raises:
            InputError: one of the flags was given.
        """
        other_than_auto = None if self.patient_from == "auto" else self.patient_from
        given = {"--workers": self.workers is not None, "--cluster": self.cluster}
        refuse_given(given, "one scan", "a folder of several scans")
        refuse_given({"--patient-from": other_than_auto}, "one scan", "--patient ID, or a folder of several scans")


def with_method(
    verb: Callable[..., int],
    arguments: Sequence[str],
    role: Role,
    default: str = "",
    taken: Callable[[], Mapping[str, Any]] = dict,
) -> Callable[..., int]:
    """Return a verb with the flags of the method that its arguments name after `--with`.

    With several methods, the verb has the flags that are common to all of them.

    Args:
        verb: `inject` or `erase`, with a keyword parameter `options`.
        arguments: arguments after the verb.
        role: role that a method of this verb has.
        default: method if the arguments name none.
        taken: finds annotations of further parameters that depend on the methods, by name; called for the verb's
            help, and for the error about a flag that does not exist.

    Raises:
        InputError: there is no such method, or it does not have the role.
    """
    methods = named_methods(value_of("--with", arguments, default))
    if not methods:
        return with_options(verb, Options, "a method")
    for one in methods:
        recorded_options(one, role, {})
    entries = [system_of(one) for one in methods]
    kinds = taken() if asks_help(arguments) else {}
    if len(entries) > 1:
        shared = _shared([entry.options for entry in entries])
        return with_options(verb, shared, f"{' and '.join(methods)} together", kinds=kinds, taken=taken)
    (entry,) = entries
    others = _others(role, entry.name)
    return with_options(verb, entry.options, entry.name, epilogue=others, kinds=kinds, taken=taken)


def named_methods(text: str) -> list[str]:
    """Return the methods of `--with`: names or paths with commas between them; the path of a file is one method.

    Example:
        >>> named_methods("render, ac-wgan")
        ['render', 'ac-wgan']
    """
    return [text] if text and Path(text).exists() else [part.strip() for part in text.split(",") if part.strip()]


def _shared(options: Sequence[type[Options]]) -> type[Options]:
    """Return a class with the options that have the same name and type in all of several classes."""
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
    """Return the text that names the other methods."""
    return f"Other methods: {who((role,), but=shown)}. `--with METHOD --help` shows the options of each."


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
    """Reserve the output folder and read the scan and the places of `--at` and `--voxel`.

    Files of a DICOM folder that do not belong to the series are named in a warning.

    Args:
        scan: file or DICOM folder.
        out: folder that the block writes.
        beside: other values of options; those that are paths are input files, which must not be overwritten.
        at: places X,Y,Z in world mm, LPS.
        voxel: places I,J,K in voxels along the image's axes x, y, z.
        series: UID of a DICOM series or its end; None if the folder has one series.
        force: read an image whose values do not look like HU.
        overwrite: replace a folder that an earlier call wrote.

    Yields:
        The scan in the voxels of its file, and all places (x, y, z) in world mm, LPS.

    Raises:
        InputError: a place is not three numbers, the scan is not a CT in HU, or `out` must not be overwritten.
    """
    points = parse_places(at, "--at", "X,Y,Z in mm, such as --at=-70,0,-150")
    indices = parse_places(voxel, "--voxel", "I,J,K, such as --voxel=120,256,80")
    sources = [Path(path) for path in (scan, *beside) if isinstance(path, str | Path)]
    with claiming(out, overwrite=overwrite, sources=sources):
        read = read_scan_given(scan, series, force)
        if read.dicom is not None and read.dicom.left_out:
            warn(f"left out {listed(read.dicom.left_out)}")
        for index in indices:
            _check_voxel(index, read.ct.shape)
        yield read, points + [read.ct.to_world(index[::-1]).tolist() for index in indices]


def _check_voxel(index: Sequence[float], shape: Sequence[int]) -> None:
    """Refuse a place I,J,K outside a scan of a shape (z, y, x); the error says if K,J,I would be inside."""
    sizes = shape[::-1]
    if all(-0.5 <= i <= n - 0.5 for i, n in zip(index, sizes, strict=True)):
        return
    expected = f"I,J,K below {','.join(map(str, sizes))}, counted from 0 along the image's axes x, y, z"
    if all(-0.5 <= i <= n - 0.5 for i, n in zip(index, shape, strict=True)):
        expected += "; your numbers fit in the order K,J,I"
    raise InputError("--voxel", ",".join(f"{i:g}" for i in index), expected)


def refuse_given(options: Mapping[str, object], where: str, expected: str) -> None:
    """Check that options which do not apply to the input were not given.

    Args:
        options: values by flag; an empty value was not given.
        where: the input to which they do not apply, such as "one scan".
        expected: what the error says was expected.

    Raises:
        InputError: one of the options was given.
    """
    for option, value in options.items():
        if value:
            raise InputError(option, f"given with {where}", expected)


def tell_folder(made: EditedFolder, json: bool, what: str = "scan", done: str = "added") -> int:
    """Print what was written into a folder of cases, and return the exit code, 0, also if some cases failed.

    Args:
        made: the folder.
        json: print its manifest instead of a line.
        what: what a case is.
        done: what was done with the nodules.
    """
    for note in made.notes:
        warn(note)
    if json:
        print(dumps(read_mapping(made.out / MANIFEST), indent=1))
    else:
        failed = f"; {quantity(len(made.failed), what)} failed, see the warnings" if made.failed else ""
        new = quantity(made.nodules - made.earlier, f"{done} nodule")
        had = "label maps" if what == "volume" else "scans"
        before = f", and {made.earlier} that the {had} had before" if made.earlier else ""
        say(f"{made.out}: {quantity(len(made.cases), what)} with {new}{before}{failed}")
    return 0
