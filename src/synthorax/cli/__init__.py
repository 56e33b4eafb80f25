"""The `synthorax` command: a table of verbs, each imported when it is used, and one error formatter."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from io import TextIOWrapper
from typing import TYPE_CHECKING

from synthorax.cli.nets import ending_signals, quiet, unforeseen
from synthorax.errors import SIGNALLED, SynthoraxError, reason
from synthorax.screen import one_line, say

if TYPE_CHECKING:
    from cyclopts import App

VERBS = {
    "demo": ("The whole way in miniature, on real nodule shapes, ending in a page to look at.", "demo:demo"),
    "prepare lidc": ("LIDC-IDRI as downloaded.", "prepare:lidc"),
    "prepare luna16": ("LUNA16 as downloaded.", "prepare:luna16"),
    "prepare scans": ("A folder of CT scans, with or without nodules.", "prepare:scans"),
    "prepare patches": ("Your own images and masks, by a table.", "prepare:patches"),
    "prepare phantom": ("Phantom patients with nodules of real shapes; no data is needed.", "prepare:phantom"),
    "prepare shapes": ("Real nodule shapes of LIDC-IDRI as one stack with a table.", "prepare:shapes"),
    "sample": ("New nodules out of a trained model.", "sample:verb()"),
    "inject": ("Nodules put into a chest CT of yours.", "inject:verb()"),
    "erase": ("Nodules taken out of a chest CT of yours.", "erase:verb()"),
    "translate": ("CT painted from a label map of tissues, nodules put in.", "translate:translate"),
    "study shapes": ("How good a generator of shapes is: LuNG's experiment, with the paper's figures.", "study:shapes"),
    "study baselines": ("What real patches alone give: the bars that synthesis must lift.", "study:baselines"),
    "study detection": ("Do made nodules help a detector, and which?", "study:detection"),
    "study false-alarms": ("Which made nodules spare a detector false alarms in whole chests?", "study:false_alarms"),
    "study malignancy": ("Do made malignant nodules help to tell malignant from benign ones?", "study:malignancy"),
    "study volumes": ("Are made chests like real ones, and does pre-training on them help?", "study:volumes"),
    "study segmentation": ("How many real scans do synthetic ones replace for a segmenter?", "study:segmentation"),
    "study fidelity": ("Are made cubes like real ones, new, varied, and what was asked for?", "study:fidelity"),
    "export": ("A store or folder of samples in nnU-Net's or MONAI's layout.", "export:export"),
    "info": ("What a store, run, model, folder of samples, scan or mask holds.", "about:info"),
    "verify": ("Whether a file or folder says that it is synthetic.", "about:verify"),
    "models": ("The models that come with the package.", "about:models"),
    "doctor": ("Is this machine fit: packages, memory, GPU, disk, speed.", "about:doctor"),
    "pack": ("A store, or the patches a recipe needs of it, as one compact file to carry.", "pack:pack"),
    "unpack": ("A store out of such a file.", "pack:unpack"),
    "features": ("The 12 shape features of nodule masks, one row a nodule.", "features:features"),
}
"""What users can do, in the order they would: verb -> (help, where it is). At a place with `()` stands a function that
makes the verb for the arguments after it, as its flags depend on them."""

VERB_GROUPS = {
    "prepare": "Turn a source into data that can be trained on.",
    "train": "Train a system; the same command goes on where it stopped.",
    "study": "The papers' experiments, each ending in a table with intervals and a page.",
}


def build_app(arguments: Sequence[str] = ()) -> App:
    """The command with its verbs, none of them imported; the one that is asked for tells its own help."""
    from cyclopts import App

    app = App(
        name="synthorax",
        help="Synthetic lung nodules and chest CT, and proof of whether they help.",
        help_epilogue="`synthorax VERB --help` tells more. Not for diagnosis: everything made here is synthetic.",
        version=version("synthorax"),
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    groups = {name: App(name=name, help=text) for name, text in VERB_GROUPS.items()}
    for group in groups.values():
        app.command(group)
    if list(arguments[:1]) == ["train"]:  # its commands are the systems, and only that verb looks for them
        from synthorax.cli.train import add_systems

        add_systems(groups["train"], arguments[1:])
    for verb, (text, place) in VERBS.items():
        parent, _, name = verb.rpartition(" ")
        is_asked = list(arguments[: len(verb.split())]) == verb.split()
        group = groups[parent] if parent else app
        if place.endswith("()") and is_asked:
            module, _, function = place.removesuffix("()").partition(":")
            made = getattr(import_module(f"synthorax.cli.{module}"), function)(arguments[len(verb.split()) :])
            group.command(made, name=name, help_epilogue=made.epilogue or None)
        else:
            group.command(f"synthorax.cli.{place.removesuffix('()')}", name=name, help=None if is_asked else text)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code. Whatever goes wrong is one line on stderr."""
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a name that the terminal's encoding lacks must not stop anything
            stream.reconfigure(errors="backslashreplace")
    with quiet(), ending_signals():
        try:
            return _run(arguments)
        except SynthoraxError as error:
            return _fail(error, error.exit_code)
        except BrokenPipeError:  # The reader of our output, such as `head`, has had enough.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except OSError as error:
            return _fail(f"{_name(error)}: {reason(error)}", 2)
        except KeyboardInterrupt as stopped:
            return _fail(f"stopped {stopped}".rstrip(), SIGNALLED + getattr(stopped, "number", signal.SIGINT))
        except Exception as error:
            return _fail(unforeseen(error, arguments), 1)


def _run(arguments: Sequence[str]) -> int:
    from cyclopts import CycloptsError, UnknownOptionError  # here, so that Ctrl-C finds somebody who listens

    try:
        code = build_app(arguments)(arguments, exit_on_error=False, print_error=False)
    except UnknownOptionError as error:
        takes = getattr(error.target, "takes", None)
        text = (
            takes(error.token.keyword or error.token.value) if takes else " ".join(str(error).split()) + " Try --help."
        )
        return _fail(text, 2)
    except CycloptsError as error:
        return _fail(_of_options(error.__cause__) or " ".join(str(error).split()) + " Try --help.", 2)
    return code if isinstance(code, int) else 0


def _of_options(cause: BaseException | None) -> str:
    """One line of an option whose class refuses its value; nothing for other errors."""
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
