"""Finding a model, whatever it is called: a run folder now, bundled weights later."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from synthorax.errors import InputError
from synthorax.provenance import sha256

if TYPE_CHECKING:
    from synthorax.training.system import System
    from synthorax.training.trainable import Trainable


@dataclass(frozen=True)
class Entry:
    """Where a system's parts are; nothing is imported before it is asked for.

    Attributes:
        system: the class.
        config: `(preset, settings)` to its configuration; without torch.
        training: `(config, data, seed, ...)` to what the loop needs.
    """

    system: str
    config: str
    training: str


SYSTEMS = {
    "lung": Entry(
        system="synthorax.systems.lung.system:Lung",
        config="synthorax.systems.lung.config:lung_config",
        training="synthorax.systems.lung.training:lung_training",
    ),
    "ac-wgan": Entry(
        system="synthorax.systems.ac_wgan.system:AcWgan",
        config="synthorax.systems.ac_wgan.config:ac_wgan_config",
        training="synthorax.systems.ac_wgan.training:ac_wgan_training",
    ),
}

CONFIG, WEIGHTS = "config.yaml", "weights.safetensors"


@dataclass(frozen=True, eq=False)
class Model:
    """A system with weights, and the hash that names them."""

    system: System
    sha256: str


def entry(name: str) -> Entry:
    """Where a system is.

    Raises:
        InputError: no system of that name.
    """
    if name not in SYSTEMS:
        raise InputError("system", repr(name), " or ".join(SYSTEMS))
    return SYSTEMS[name]


def part(place: str) -> Any:
    """What stands at `module:name`."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def start_from(model: Trainable, first: Model) -> None:
    """Give a fresh model the weights of another, to go on from.

    Raises:
        InputError: weights of other networks.
    """
    try:
        model.load_weights(first.system.weights())
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError("from", f"weights that do not fit ({reason})", f"a model of this {model.name}") from error


def load(path: Path | str) -> Model:
    """The model of a run folder.

    Raises:
        InputError: not a run folder, one without weights yet, or weights that do not fit its configuration.
    """
    folder = Path(path)
    if not (folder / CONFIG).is_file():
        raise InputError(folder, "no config.yaml", "a run folder, as `synthorax train` makes")
    if not (weights := folder / WEIGHTS).is_file():
        raise InputError(folder, "no weights.safetensors", "a run that has saved at least once")
    from safetensors.torch import load_file

    try:
        content = yaml.safe_load((folder / CONFIG).read_text())
        system = part(entry(content["system"]).system).restore(content["config"], load_file(weights))
    except InputError:
        raise
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(folder, f"a damaged run ({reason})", "the config.yaml and weights of one run") from error
    return Model(system, sha256(weights))
