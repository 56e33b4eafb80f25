"""Finding a model, whatever it is called: a run folder now, bundled weights later."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from synthorax.errors import InputError
from synthorax.provenance import sha256

if TYPE_CHECKING:
    from synthorax.training.system import System

SYSTEMS = {
    "lung": "synthorax.systems.lung.system:Lung",
}
"""Every system and where its class is; nothing is imported before it is asked for."""

CONFIG, WEIGHTS = "config.yaml", "weights.safetensors"


@dataclass(frozen=True, eq=False)
class Model:
    """A system with weights, and the hash that names them."""

    system: System
    sha256: str


def system_class(name: str) -> type[System]:
    """The class of a system.

    Raises:
        InputError: no system of that name.
    """
    if name not in SYSTEMS:
        raise InputError("system", repr(name), " or ".join(SYSTEMS))
    module, _, attribute = SYSTEMS[name].partition(":")
    return getattr(import_module(module), attribute)


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
        system = system_class(content["system"]).restore(content["config"], load_file(weights))
    except InputError:
        raise
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(folder, f"a damaged run ({reason})", "the config.yaml and weights of one run") from error
    return Model(system, sha256(weights))
