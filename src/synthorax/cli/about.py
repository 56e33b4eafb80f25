"""`synthorax info` and `synthorax verify`."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from synthorax import api

NOT_SYNTHETIC = 1


def info(path: Path, *, json: Annotated[bool, Parameter(name="--json")] = False) -> None:
    """What a path holds: a store, run folder, folder of samples, DICOM folder, scan, mask or array.

    Parameters
    ----------
    path
        File or folder.
    json
        Print JSON.
    """
    found = api.info(path)
    if json:
        print(dumps(found, indent=1))
        return
    for line in _lines(found):
        print(line)


def verify(path: Path, *, json: Annotated[bool, Parameter(name="--json")] = False) -> int:
    """Whether a file or folder says that it is synthetic. Exit code 0 if so, 1 if not or only in part.

    Parameters
    ----------
    path
        NIfTI, MHA, MHD, NRRD, DICOM file or folder, STL, folder of samples, or store.
    json
        Print JSON.
    """
    marks = api.verify(path)
    is_synthetic = bool(marks) and not any(mark.partly for mark in marks)
    if json:
        print(dumps({"synthetic": is_synthetic, "marks": [vars(mark) for mark in marks]}, indent=1))
    elif marks:
        for mark in marks:
            print(f"{path}: {'partly ' * mark.partly}synthetic, by {mark.place}: {mark.text}")
    else:
        print(f"{path}: no synthetic mark")
    return 0 if is_synthetic else NOT_SYNTHETIC


def _lines(value: Any, indent: str = "") -> list[str]:
    """A mapping as lines of `name: value`, inner ones indented."""
    lines = []
    for name, inner in value.items():
        if isinstance(inner, dict) and inner:
            lines += [f"{indent}{name}:", *_lines(inner, indent + "  ")]
        elif isinstance(inner, list) and inner and isinstance(inner[0], dict):
            for number, item in enumerate(inner, start=1):
                lines += [f"{indent}{name} {number}:", *_lines(item, indent + "  ")]
        else:
            lines.append(f"{indent}{name}: {inner}")
    return lines
