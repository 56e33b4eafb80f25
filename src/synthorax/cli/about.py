"""`synthorax info`, `verify`, `models` and `doctor`."""

from __future__ import annotations

from csv import DictWriter
from io import StringIO
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthorax import api
from synthorax.cli.options import Json
from synthorax.errors import InputError
from synthorax.hub import has_role
from synthorax.makers import Role
from synthorax.registry import registry
from synthorax.screen import first_of, quantity, say, warn

if TYPE_CHECKING:
    from synthorax.api.machine import MachineCheck

NOT_SYNTHETIC = 1
"""Exit code of `verify` for a file or folder that is not marked as synthetic, or only in part."""
MOST_MARKS_SHOWN = 5
"""Marks, and files without one, that `verify` shows at most."""
UNFIT_EXIT = 1
"""Exit code of `doctor` on a machine that lacks something, or for a system that is wrong."""


def info(
    path: Path,
    *,
    check: bool = False,
    draw: Path | None = None,
    cases: bool = False,
    json: Json = False,
) -> None:
    """Show what a store, run folder, result, scan, folder of scans, mask, table or array holds, or a model's card.

    Parameters
    ----------
    path
        File or folder, or the name of a bundled model or of a system.
    check
        Read every file of a store and compare its hash with the recorded one.
    draw
        PNG file to write, with slices of a store's CT beside its label maps of tissues.
    cases
        Print the cases of a store as CSV instead: case, patient, split and number of nodules.
    json
        Print JSON.
    """
    if cases:
        if check or draw is not None:
            raise InputError("--cases", "--check or --draw beside it", "one of them at a time")
        _print_cases(path, json)
        return
    found = api.info(path, check=check, draw=draw)
    if json:
        print(dumps(found, indent=1))
    elif found["holds"] == "bundled model":
        say(found["card"], end="")
    else:
        _print(found)


def _print_cases(path: Path, json: bool) -> None:
    """Print the cases of a store, as CSV or JSON."""
    store = api.open_store(path)
    rows = [
        {
            "case": case.case_id,
            "patient": case.patient_id,
            "split": store.split_of(case.patient_id),
            "nodules": len(case.nodules),
        }
        for case in store.cases
    ]
    if json:
        print(dumps(rows, indent=1))
        return
    text = StringIO()
    writer = DictWriter(text, ["case", "patient", "split", "nodules"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    say(text.getvalue(), end="")


VERBS_OF_ROLES: dict[Role, tuple[str, ...]] = {
    "makes shapes": ("sample",),
    "makes patches": ("sample",),
    "makes scans": ("sample",),
    "injects": ("inject",),
    "erases": ("erase",),
    "paints": ("translate",),
    "judges": ("study",),
}
"""The verbs that use a model of each role."""


def models(*, json: Json = False) -> None:
    """List the models that come with the package, with the verbs that use them.

    Parameters
    ----------
    json
        Print JSON.
    """
    found = api.models()
    for name, why in registry().broken.items():
        warn(f"the system {name} cannot be used: {why}")
    if json:
        print(dumps(found, indent=1))
        return
    if not found:
        say("no model is bundled; `synthorax train` makes one")
    for model in found:
        name, entry = model["name"], registry()[model["system"]]
        verbs = dict.fromkeys(
            verb for role, using in VERBS_OF_ROLES.items() if has_role(entry.roles, (role,)) for verb in using
        )
        figures = "measured, see its card" if model["figures"] else "not measured yet"
        say(f"{name}: {model['what']}")
        say(f"  {', '.join(verbs) or 'for studies'}; {model['mb']:.1f} MB; {figures}")
    if found:
        say("`synthorax info NAME` shows the card of one: figures, limits, patients, licence")
        say("`synthorax train --help` lists the systems that can be trained")


def doctor(*, system: str | None = None, data: Path | None = None, json: Json = False) -> int:
    """Check this machine, or a system. Exit code 1 if something is missing or wrong, 2 if there is no such system.

    Parameters
    ----------
    system
        Name of a system, such as one of your own package: check it as docs/extending.md says. A system with weights is
        first trained with its preset smoke.
    data
        Store or shapes to train the system on; by default small cubes of noise with balls.
    json
        Print JSON.
    """
    from synthorax.api.machine import is_fit

    if data is not None and system is None:
        raise InputError("--data", f"{data} without --system", "--data together with --system NAME")
    found = api.doctor(system, data, None if json else _tell)
    if json:
        print(dumps({"fit": is_fit(found), "findings": [vars(finding) for finding in found]}, indent=1))
    else:
        noted = ", with notes that you should read" * any(finding.state == "note" for finding in found)
        say(
            f"fit{noted}"
            if is_fit(found)
            else f"not fit: see the lines marked {'missing' if system is None else 'wrong'}"
        )
    return 0 if is_fit(found) else UNFIT_EXIT


def _tell(finding: MachineCheck) -> None:
    """Print a check of `doctor`."""
    advice = f" -> {finding.advice}" if finding.advice else ""
    say(f"{finding.state:<8}{finding.name}: {finding.found}{advice}")


def _print(found: dict[str, Any]) -> None:
    for line in _lines(found):
        say(line)


def verify(path: Path, *, json: Json = False) -> int:
    """Check whether a file or folder is marked as synthetic.

    Exit code 0 if it is, 1 if not or only in part, 2 for an error. A mark ends with the start of the model's hash, if
    there is a model, and with s and the seed.

    Parameters
    ----------
    path
        NIfTI, MHA, MHD, NRRD, STL or DICOM file, DICOM folder, folder of samples, or store.
    json
        Print JSON.
    """
    marks = api.verify(path)
    is_synthetic = bool(marks) and not any(mark.partly for mark in marks)
    if json:
        print(dumps({"synthetic": is_synthetic, "marks": [vars(mark) for mark in marks]}, indent=1))
    elif marks:
        for mark in marks[:MOST_MARKS_SHOWN]:
            say(f"{path}: {'partly ' * mark.partly}synthetic, by {mark.place}: {mark.text}")
        if (more := len(marks) - MOST_MARKS_SHOWN) > 0:
            say(f"{path}: and {quantity(more, 'other mark')}; --json lists all")
        without = next((mark.without for mark in marks if mark.without), ())
        if is_synthetic:
            say(f"{path}: all of it is marked as synthetic")
        elif without:
            named = first_of(without, MOST_MARKS_SHOWN)
            say(f"{path}: {quantity(len(without), 'file')} without a mark that can be read: {named}")
    else:
        say(f"{path}: no synthetic mark")
    return 0 if is_synthetic else NOT_SYNTHETIC


def _lines(value: Any, indent: str = "") -> list[str]:
    """Return a mapping as lines of `name: value`, with inner mappings indented."""
    lines = []
    for name, inner in value.items():
        if isinstance(inner, dict) and inner:
            lines += [f"{indent}{name}:", *_lines(inner, indent + "  ")]
        elif name == "notes" and isinstance(inner, list) and inner:
            lines += [f"{indent}note: {note}" for note in inner]
        elif isinstance(inner, list) and inner and isinstance(inner[0], dict):
            for number, item in enumerate(inner, start=1):
                lines += [f"{indent}{name} {number}:", *_lines(item, indent + "  ")]
        else:
            lines.append(f"{indent}{name}: {'no mark' if (name, inner) == ('synthetic', '') else inner}")
    return lines
