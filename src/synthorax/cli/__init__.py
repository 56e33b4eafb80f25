"""The `synthorax` command: a table of verbs, each imported when it is used, and one error formatter."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any

from synthorax.cli.nets import ending_signals, quiet, unforeseen
from synthorax.errors import SIGNALLED, InputError, SynthoraxError, reason
from synthorax.screen import one_line, say

if TYPE_CHECKING:
    from cyclopts import App

VERBS = {
    "demo": ("Train a small model on real nodule shapes, inject its nodules, and write a page.", "demo:demo"),
    "prepare lidc": ("Make a store from LIDC-IDRI as downloaded.", "prepare:lidc"),
    "prepare luna16": ("Make a store from LUNA16 as downloaded.", "prepare:luna16"),
    "prepare scans": ("Read a folder of CT scans, with or without nodules, into a store.", "prepare:scans"),
    "prepare patches": ("Read your own images and nodule masks, listed in a table, into a store.", "prepare:patches"),
    "prepare phantom": (
        "Make a store of phantom patients with nodules of real shapes; needs no data.",
        "prepare:phantom",
    ),
    "prepare shapes": ("Write LIDC-IDRI's nodule shapes as one array with a table.", "prepare:shapes"),
    "sample": ("Make new nodule shapes, CT patches or chest CTs with a trained model.", "sample:verb()"),
    "inject": ("Put nodules into your chest CT scans.", "inject:verb()"),
    "erase": ("Remove nodules from your chest CT scans.", "erase:verb()"),
    "translate": ("Make chest CT from a label map of tissues, with nodules added.", "translate:translate"),
    "studio": ("Open a local web page to click nodules into a scan.", "studio:studio"),
    "study shapes": ("Measure how good generated nodule shapes are, with LuNG's experiment.", "study:shapes_verb()"),
    "study baselines": ("Measure what tasks reach with real patches alone.", "study:baselines_verb()"),
    "study detection": ("Test whether generated nodules help a nodule detector.", "study:detection_verb()"),
    "study false-alarms": (
        "Test which generated nodules reduce a detector's false alarms in whole chests.",
        "study:false_alarms_verb()",
    ),
    "study malignancy": (
        "Test whether generated malignant nodules help to classify malignancy.",
        "study:malignancy_verb()",
    ),
    "study volumes": (
        "Compare generated chest CTs with real ones, and test pre-training on them.",
        "study:volumes_verb()",
    ),
    "study segmentation": (
        "Measure how many real scans synthetic ones replace for a segmenter.",
        "study:segmentation_verb()",
    ),
    "study fidelity": (
        "Measure if generated patches are realistic, new, varied, and as requested.",
        "study:fidelity_verb()",
    ),
    "study scores": ("Test whether synthetic nodules help your own detector, by its scores.", "study:scores"),
    "export": ("Write a store or folder of samples in the layout of nnU-Net or MONAI.", "export:export"),
    "info": ("Show what a store, run, model, result, scan, folder of scans or table holds.", "about:info"),
    "verify": ("Check whether a file or folder is marked as synthetic.", "about:verify"),
    "models": ("List the models that come with the package.", "about:models"),
    "doctor": ("Check this machine, or a system of your own package.", "about:doctor"),
    "pack": ("Pack a store, or the patches needed from it, into one file to copy.", "pack:pack"),
    "unpack": ("Make a store from a file that pack wrote.", "pack:unpack"),
    "features": ("Compute the 12 shape features of nodule masks.", "features:features"),
}
"""The verbs: help, and module and function of each. A function with `()` makes the verb from the arguments after it,
because the verb's flags depend on them."""

VERB_GROUPS = {
    "prepare": "Turn scans and annotations into a store to train on.",
    "train": "Train a model; the same command resumes a run that was stopped.",
    "study": "Run the papers' experiments; each writes a table with confidence intervals and a page.",
}
"""Verbs that have verbs of their own, with their help."""

PANELS = {
    "Edit scans": ("inject", "erase", "translate", "studio"),
    "Make nodules and scans": ("sample", "models"),
    "Prepare data": ("prepare", "export", "pack", "unpack"),
    "Train and measure": ("demo", "train", "study", "features"),
    "Inspect": ("info", "verify", "doctor"),
}
"""Groups in which `synthorax --help` lists the verbs."""


def build_app(arguments: Sequence[str] = ()) -> App:
    """Return the command with its verbs; only the verb that the arguments name is imported, and has its full help."""
    from cyclopts import App, Group

    app = App(
        name="synthorax",
        help="Make synthetic lung nodules and chest CT, and measure whether they help.",
        help_epilogue="`synthorax VERB --help` shows a verb's flags. Not for diagnosis.",
        version=version("synthorax"),
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    panels: dict[str, Group] = {}
    for position, (title, verbs) in enumerate(PANELS.items()):
        panels |= dict.fromkeys(verbs, Group(title, sort_key=position))
    groups = {name: App(name=name, help=text, group=panels[name]) for name, text in VERB_GROUPS.items()}
    for group in groups.values():
        app.command(group)
    if list(arguments[:1]) == ["train"]:  # its commands are the systems, which only this verb loads
        from synthorax.cli.train import add_systems

        add_systems(groups["train"], arguments[1:])
    for verb, (text, place) in VERBS.items():
        parent, _, name = verb.rpartition(" ")
        is_asked = list(arguments[: len(verb.split())]) == verb.split()
        group = groups[parent] if parent else app
        panel: dict[str, Any] = {} if parent else {"group": panels[name]}
        if place.endswith("()") and is_asked:
            module, _, function = place.removesuffix("()").partition(":")
            made = getattr(import_module(f"synthorax.cli.{module}"), function)(arguments[len(verb.split()) :])
            group.command(made, name=name, help_epilogue=made.epilogue or None, **panel)
        else:
            where = f"synthorax.cli.{place.removesuffix('()')}"
            group.command(where, name=name, help=None if is_asked else text, **panel)
    return app


def verb_of(arguments: Sequence[str]) -> list[str]:
    """Return the words of the verb with which the arguments begin; of a verb group, the first two words."""
    return [*arguments[: 1 + (arguments[:1] != [] and arguments[0] in VERB_GROUPS)]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code. Any error is printed as one line on stderr.

    Args:
        arguments: words after `synthorax`; those of this process if None.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # so that no character can fail to be printed
            stream.reconfigure(errors="backslashreplace")
    with quiet(), ending_signals():
        try:
            return _run(arguments)
        except InputError as error:
            from synthorax.cli.argument_names import in_flags

            return _fail(in_flags(error, arguments), error.exit_code)
        except SynthoraxError as error:
            return _fail(error, error.exit_code)
        except BrokenPipeError:  # the reader of the output, such as `head`, has stopped reading
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except OSError as error:
            return _fail(f"{_name(error)}: {reason(error)}", 2)
        except KeyboardInterrupt as stopped:
            return _fail(f"stopped {stopped}".rstrip(), SIGNALLED + getattr(stopped, "number", signal.SIGINT))
        except Exception as error:
            return _fail(unforeseen(error, arguments), 1)


def _run(arguments: Sequence[str]) -> int:
    from cyclopts import CycloptsError, UnknownOptionError  # imported where Ctrl-C is already handled

    try:
        code = build_app(arguments)(arguments, exit_on_error=False, print_error=False)
    except UnknownOptionError as error:
        takes = getattr(error.target, "takes", None)
        text = (
            takes(error.token.keyword or error.token.value) if takes else " ".join(str(error).split()) + " Try --help."
        )
        return _fail(text, 2)
    except CycloptsError as error:
        from synthorax.cli.usage import usage_line

        return _fail(_of_options(error.__cause__) or usage_line(error, arguments), 2)
    return code if isinstance(code, int) else 0


def _of_options(cause: BaseException | None) -> str:
    """Return the line for an option with a value that is not allowed; "" for other errors."""
    from pydantic import ValidationError

    if not isinstance(cause, ValidationError):
        return ""
    first = cause.errors()[0]
    flag = "-".join(map(str, first["loc"])).replace("_", "-")
    return f"--{flag}: found {first['input']!r}; expected {first['msg'].removeprefix('Input should be ')}"


def _name(error: OSError) -> str:
    return os.fsdecode(error.filename) if isinstance(error.filename, str | bytes | os.PathLike) else "file"


def _fail(text: object, code: int) -> int:
    say(one_line(f"synthorax: {text}"), error=True)
    return code
