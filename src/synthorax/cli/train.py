"""`synthorax train SYSTEM`: one verb, whose flags and settings are those of the system that it names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from pydantic import BaseModel, Field, create_model

from synthorax import api
from synthorax.cli.flags import meanings, setting_text, value_of, with_options
from synthorax.cli.options import parse_settings
from synthorax.makers import Options
from synthorax.registry import Entry, registry
from synthorax.screen import say, warn

if TYPE_CHECKING:
    from cyclopts import App

Settings = Annotated[list[str] | None, Parameter(negative="")]
DATA_PARAMETERS: Mapping[str, Any] = {
    "store": Annotated[
        Path, Parameter(help="A store, as `synthorax prepare` makes; its training patients are learned from.")
    ],
    "shapes": Annotated[
        str,
        Parameter(
            help="lidc, the annotations in the package; or a .npy stack on the model's grid, a NIfTI or MHA mask, a "
            "folder."
        ),
    ],
}
"""Type and help of `--data`, by what a system is trained on."""


@Parameter(name="*")
@dataclass(kw_only=True, frozen=True)
class Where:
    """From where and on what it trains, and for how long.

    Parameters
    ----------
    start
        A model whose weights are the first ones: a name, file or run folder.
    device
        auto (cuda where there is one, else cpu), cpu, cuda, or mps, which nobody has tried.
    devices
        Number of devices, each with a process of its own and a share of every batch.
    nodes
        Hosts, on each of which the same command runs, with MASTER_ADDR and MASTER_PORT of the first one and
        NODE_RANK 0, 1, ... in its environment; or by srun or torchrun. See docs/training.md.
    max_minutes
        Stop cleanly this long after the command began; the same command goes on.
    """

    start: Annotated[str | None, Parameter(name="--from")] = None
    device: str = "auto"
    devices: int = 1
    nodes: int = 1
    max_minutes: float | None = None


def add_systems(group: App, arguments: Sequence[str]) -> None:
    """Add a command for every system that is trained; only the one that the arguments name is imported.

    Systems of other packages that cannot be used are named in a warning where the systems are listed.

    Args:
        group: of the verb.
        arguments: after it.

    Raises:
        InputError: the first argument is no system that is trained.
    """
    named = arguments[0] if arguments and not arguments[0].startswith("-") else ""
    if not named:
        for name, reason in registry().broken.items():
            warn(f"the system {name} cannot be used: {reason}")
    asked = registry().trained(named) if named else None
    for name in registry().having(lambda entry: entry.is_trained):
        entry = registry()[name]
        if entry is asked:
            help_ = f"{entry.help} Run it again to go on where it stopped."
            made = verb(entry, arguments[1:])
            group.command(made, name=name, help=help_, help_epilogue=made.epilogue)  # type: ignore[attr-defined]
        else:
            group.command(_of_another, name=name, help=entry.help)


def _of_another() -> None:
    """Stand in a list for a system that the arguments do not name."""


def verb(entry: Entry, arguments: Sequence[str] = ()) -> Callable[..., None]:
    """Return the verb that trains a system.

    Args:
        arguments: after the system's name; the settings are shown as the preset among them has them.
    """
    presets = entry.presets
    first = next(iter(presets))
    about = " ".join(f"{name}: {text}" for name, text in entry.about_presets.items())
    kinds = {
        "data": DATA_PARAMETERS[entry.data],
        "preset": Annotated[Literal[tuple(presets)], Parameter(help=about)],
    }

    def train(
        *,
        data: Any,
        out: Path,
        preset: Any = first,
        seed: int = 0,
        config: Path | None = None,
        set: Settings = None,  # noqa: A002  (the option's name)
        more_steps: int | None = None,
        options: Options | None = None,
        where: Where | None = None,
    ) -> None:
        """Train a system.

        Parameters
        ----------
        out
            Run folder: config, weights, log, pictures, state. Other verbs take it as a model.
        seed
            Decides the first weights and whatever else is drawn.
        config
            YAML file of settings, such as a run's config.yaml.
        set
            One setting, KEY=VALUE; may be repeated.
        more_steps
            Go on with the run in OUT for this many steps more than it had; the rest of the command stays as it was.
        """
        given = options.given() if options else {}
        own = {name: given.pop(name) for name in entry.flags if name in given}
        settings = parse_settings(set or [], config, **own)
        given |= vars(where or Where()) | {"seed": seed, "more_steps": more_steps}
        outcome = api.train(entry.name, data, out, preset=preset, settings=settings, **given)
        if not outcome.finished:
            say(f"{out}: stopped after {outcome.step} steps; the same command goes on")
            return
        more = "; --more-steps N goes on" if "steps" in entry.config.model_fields else ""
        say(f"{out}: trained, {outcome.step} steps{more}")

    named = value_of("--preset", arguments)
    shown_preset = named if named in presets else first
    epilogue = _settings_help(entry.config, shown_preset, presets[shown_preset])
    return with_options(train, _flags(entry), entry.name, epilogue=epilogue, kinds=kinds)


def _flags(entry: Entry) -> type[Options]:
    """The options of a system's training, and its settings that have a flag of their own."""
    texts = meanings(entry.config)
    fields: dict[str, Any] = {
        name: (str | None, Field(default=None, description=texts.get(name))) for name in entry.flags
    }
    return create_model("Flags", __base__=entry.training_options, **fields)


def _settings_help(kind: type[BaseModel], preset: str, config: BaseModel) -> str:
    """Every setting with its value in a preset and what it means, in Markdown."""
    texts = meanings(kind)
    lines = [
        f"- `{name}={setting_text(value)}`: {texts.get(name, '')}"
        for name, value in config.model_dump(mode="json").items()
    ]
    return "\n".join([f"Settings that `--set KEY=VALUE` takes, with their values in preset {preset}:", "", *lines])
