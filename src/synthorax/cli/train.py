"""`synthorax train SYSTEM`: one verb, with the flags and settings of the system that is named."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from pydantic import BaseModel, Field, create_model

from synthorax import api
from synthorax.api.training import best_step, trained_on
from synthorax.cli.flags import setting_text, value_of, with_options
from synthorax.cli.options import COMPUTING_FLAGS, TRAINING_FLAGS, ConfigFile, Out, Seed, Settings, parse_settings
from synthorax.hub import masks_missing, uses
from synthorax.makers import Options, meanings
from synthorax.registry import Entry, registry
from synthorax.screen import say, warn

if TYPE_CHECKING:
    from cyclopts import App

DATA_PARAMETERS: Mapping[str, Any] = {
    "store": Annotated[
        Path, Parameter(help="A store, as `synthorax prepare` writes; the model learns from its training patients.")
    ],
    "shapes": Annotated[
        str,
        Parameter(
            help="lidc for the annotations in the package; a store, as `synthorax prepare` writes, of whose training "
            "patients the outlined nodules are taken; or a .npy array [n, z, y, x] on the model's grid, a NIfTI or MHA "
            "mask, whose separate nodules are taken one by one, or a folder of these."
        ),
    ],
}
"""Type and help of `--data`, by the kind of data that a system is trained on."""


@Parameter(name="*", group=COMPUTING_FLAGS)
@dataclass(kw_only=True, frozen=True)
class Where:
    """The weights that training starts from, its devices, and its time limit.

    Parameters
    ----------
    start
        Start from the weights of another model: a name, file or run folder.
    device
        auto for cuda if there is a GPU and else cpu; or cpu, cuda, mps (untested).
    devices
        Number of devices; each has its own process and an equal part of every batch.
    nodes
        Number of hosts. Run the same command on each, with MASTER_ADDR and MASTER_PORT of the first host and NODE_RANK
        0, 1, ... in the environment, or by srun or torchrun. See docs/training.md.
    max_minutes
        Stop after this time and save the state; the same command resumes the run.
    """

    start: Annotated[str | None, Parameter(name="--from", group=TRAINING_FLAGS)] = None
    device: str = "auto"
    devices: int = 1
    nodes: int = 1
    max_minutes: float | None = None


def add_systems(group: App, arguments: Sequence[str]) -> None:
    """Add a command for each system that is trained; only the system that the arguments name is imported.

    When the systems are listed, those of other packages that cannot be imported are named in a warning.

    Args:
        group: the verb `train`, to which the commands are added.
        arguments: arguments after `train`.

    Raises:
        InputError: the first argument is not a system that is trained.
    """
    named = arguments[0] if arguments and not arguments[0].startswith("-") else ""
    if not named:
        for name, reason in registry().broken.items():
            warn(f"the system {name} cannot be used: {reason}")
    asked = registry().trained(named) if named else None
    for name in registry().having(lambda entry: entry.is_trained):
        entry = registry()[name]
        if entry is asked:
            help_ = f"{entry.help} The same command resumes a run that was stopped."
            made = verb(entry, arguments[1:])
            group.command(made, name=name, help=help_, help_epilogue=made.epilogue)  # type: ignore[attr-defined]
        else:
            group.command(_of_another, name=name, help=entry.help)


def _of_another() -> None:
    """Do nothing: the command of a system that is only listed."""


def verb(entry: Entry, arguments: Sequence[str] = ()) -> Callable[..., None]:
    """Return the verb that trains a system.

    Args:
        entry: the system.
        arguments: arguments after the system's name; if `--preset` is among them, the help shows its settings.
    """
    presets = entry.presets
    first = next(iter(presets))
    about = " ".join(f"{name}: {text.rstrip('.')}." for name, text in entry.about_presets.items())
    kinds = {
        "data": DATA_PARAMETERS[entry.data],
        "preset": Annotated[Literal[tuple(presets)], Parameter(help=about, group=TRAINING_FLAGS)],
    }

    def train(
        *,
        data: Any,
        out: Out,
        preset: Any = first,
        seed: Seed = 0,
        config: ConfigFile = None,
        set: Settings = None,  # noqa: A002  (the option's name)
        more_steps: Annotated[int | None, Parameter(group=TRAINING_FLAGS)] = None,
        options: Options | None = None,
        where: Where | None = None,
    ) -> None:
        """Train a system.

        Parameters
        ----------
        out
            Run folder to write: configuration, weights, log, state, and pictures of samples by systems that make CT.
            Other verbs take it as a model.
        seed
            Seed of the initial weights and of all random numbers of training.
        config
            YAML file of settings, such as a run's config.yaml.
        set
            A setting KEY=VALUE; may be repeated.
        more_steps
            Train the run in OUT for this many more steps; the rest of the command has to be as before.
        """
        given = options.given() if options else {}
        own = {name: given.pop(name) for name in entry.flags if name in given}
        settings = parse_settings(set or [], config, **own)
        given |= vars(where or Where()) | {"seed": seed, "more_steps": more_steps}
        outcome = api.train(entry.name, data, out, preset=preset, settings=settings, **given)
        if not outcome.finished:
            say(f"{out}: stopped after {outcome.step} steps; the same command resumes the run")
            return
        more = "; --more-steps N trains further" if "steps" in entry.config.model_fields else ""
        about_data = f", on {known}" if (known := trained_on(out)) else ""
        parts = ", ".join(f"{name} {steps}" for name, steps in outcome.stages.items())
        in_parts = f" ({parts})" if len(outcome.stages) > 1 else ""
        say(f"{out}: trained, {outcome.step} steps{in_parts}{about_data}{more}")
        if best := best_step(out):
            say(f"commands use the weights of step {best}, which had the best validation")
        cure = masks_missing(out) if "makes patches" in entry.roles else ""
        if commands := uses(out, entry.roles, has_masks=not cure):
            say(commands.removeprefix("; "))
        if cure:
            warn(f"its nodules have no masks, which inject and an export for nnU-Net need; {cure}")

    named = value_of("--preset", arguments)
    shown_preset = named if named in presets else first
    epilogue = settings_help(entry.config, shown_preset, presets[shown_preset])
    flags = _flags(entry, shown_preset, presets[shown_preset])
    return with_options(train, flags, entry.name, epilogue=epilogue, kinds=kinds)


def _flags(entry: Entry, preset: str, config: BaseModel) -> type[Options]:
    """Return a class with the options of a system's training, and those settings that have a flag of their own.

    Args:
        entry: the system.
        preset: name of the preset whose values the help gives.
        config: that preset.
    """
    texts = meanings(entry.config)
    fields: dict[str, Any] = {}
    for name in entry.flags:
        kind = entry.config.model_fields[name].annotation
        value = setting_text(config.model_dump(mode="json")[name])
        described = f"{texts.get(name, '').rstrip('.')}; {value} in preset {preset}."
        typed = kind if kind in (int, float, bool) else str
        fields[name] = (typed | None, Field(default=None, description=described))
    return create_model("Flags", __base__=entry.training_options, **fields)


def settings_help(kind: type[BaseModel], preset: str, config: BaseModel, prefix: str = "") -> str:
    """Return a Markdown list of all settings, with their values in a preset and their meaning.

    Args:
        kind: class of the settings.
        preset: name of the preset.
        config: the preset.
        prefix: what `--set` needs before the name of each setting, such as `detection.`.
    """
    texts = meanings(kind)
    lines = [
        f"- `{prefix}{name}={setting_text(value)}`: {texts.get(name, '')}"
        for name, value in config.model_dump(mode="json").items()
    ]
    return "\n".join([f"Settings for `--set {prefix}KEY=VALUE`, with their values in preset {preset}:", "", *lines])
