"""Which systems there are, a line each; nothing of a system is imported before it is asked for. No torch here.

Another package takes part by an entry point of the group `synthorax.systems` that names an `Entry`. Entry points are
found wherever the package is installed, so also in spawned processes and in the workers of a cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, get_args

from pydantic import BaseModel, ValidationError

from synthorax.errors import InputError
from synthorax.makers import PARTS, Options, Role, check_maker

API = 1
"""Of the contract between this package and a system: `synthorax.makers`, `.patch` and `.training.system`."""
OWN = "synthorax"
"""The distribution that this package comes in."""
GROUP = "synthorax.systems"
"""Entry-point group of other packages' systems."""
Data = Literal["store", "shapes", ""]
"""What a system is trained on: a prepared store, nodule shapes, or nothing."""


@dataclass(frozen=True)
class Entry:
    """Where a system is, and what it can do.

    Its package has `config`, without torch: `Options` of sampling and editing. A trained system (`data` is not empty)
    has there also `Config`, `PRESETS`, the first of which is the default, and if it wants to `ABOUT_PRESETS`, a line
    each, `TrainingOptions`, and `FLAGS`, the settings that have a flag of their own; and it has `system` (the class
    `System`, with `restore` and `maker`) and `training` (the function `training(config, data, seed, options)`). A
    system without weights has `maker` (the function `maker(options)`).

    Attributes:
        name: what users call it.
        package: module path.
        roles: the roles of its maker; none for a network that only measures.
        data: what it is trained on: a prepared store, nodule shapes, or nothing.
        help: one line for the verbs' help.
        api: of the contract it was written for.
        distribution: what to install where it is missing; set for other packages' systems.
    """

    name: str
    package: str
    roles: frozenset[Role]
    data: Data
    help: str
    api: int = API
    distribution: str = OWN

    @property
    def is_trained(self) -> bool:
        """Whether it has weights."""
        return bool(self.data)

    @property
    def config(self) -> type[BaseModel]:
        """The class of its configuration."""
        return self.load("config", "Config")

    @property
    def presets(self) -> Mapping[str, BaseModel]:
        """Its configurations by name."""
        return self.load("config", "PRESETS")

    @property
    def options(self) -> type[Options]:
        """The class of its options for sampling and editing."""
        return self.load("config", "Options", Options)

    @property
    def about_presets(self) -> Mapping[str, str]:
        """What each preset is, for the help; empty if the system does not say."""
        return self.load("config", "ABOUT_PRESETS", {})

    @property
    def flags(self) -> tuple[str, ...]:
        """Settings of its configuration that have a flag of their own."""
        return self.load("config", "FLAGS", ())

    @property
    def training_options(self) -> type[Options]:
        """The class of its options for training, beside the configuration."""
        return self.load("config", "TrainingOptions", Options)

    def make_options(self, given: Mapping[str, Any]) -> Options:
        """Return the options of sampling and editing of these names and values.

        Raises:
            InputError: an option that the system does not have, or a value that does not fit.
        """
        return make_options(self.options, given, self.name)

    def make_training_options(self, given: Mapping[str, Any]) -> Options:
        """Return the options of training of these names and values.

        Raises:
            InputError: an option that the system does not have, or a value that does not fit.
        """
        return make_options(self.training_options, given, self.name)

    def load(self, module: str, name: str, default: Any = None) -> Any:
        """Return an object of one of its modules.

        Args:
            default: returned where the module lacks the object.

        Raises:
            InputError: a module that does not load, or lacks the object and there is no default; names the package.
        """
        mend = f"a system that fits this synthorax; update {self.distribution}"
        try:
            found = import_module(f"{self.package}.{module}")
        except InputError:
            raise
        except (Exception, SystemExit) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise InputError(self.name, f"{self.package}.{module} does not load ({reason})", mend) from error
        if not hasattr(found, name) and default is None:
            raise InputError(self.name, f"no {name} in {self.package}.{module}", mend)
        return getattr(found, name, default)

    def check(self) -> None:
        """Refuse a system that lacks a part which its entry promises.

        Raises:
            InputError: names the part and the package; of a maker without weights also what its roles ask for.
        """
        _ = self.options, self.presets if self.is_trained else {}
        if self.is_trained:
            _ = self.training_options, self.load("system", "System"), self.load("training", "training")
        else:
            check_maker(self.load("maker", "maker")(self.options()), self.roles)


BUILT_IN = (
    Entry(
        "lung",
        "synthorax.systems.lung",
        frozenset({"makes shapes"}),
        "shapes",
        "LuNG, the autoencoder of nodule shapes.",
    ),
    Entry(
        "ac-wgan",
        "synthorax.systems.ac_wgan",
        frozenset({"makes patches", "judges"}),
        "store",
        "The AC-WGAN-GP, a generator of CT cubes with and without a nodule.",
    ),
    Entry(
        "class-aware",
        "synthorax.systems.class_aware",
        frozenset({"injects"}),
        "store",
        "The class-aware in-painter: benign or malignant nodules of a size, grown into a scan.",
    ),
    Entry(
        "injector",
        "synthorax.systems.injector",
        frozenset({"injects"}),
        "store",
        "The nodule injector of CT-SGAN: a nodule into the erased middle of a volume as wide as 2 to 2.5 nodules.",
    ),
    Entry(
        "eraser",
        "synthorax.systems.eraser",
        frozenset({"erases"}),
        "store",
        "The nodule eraser of CT-SGAN: healthy lung in the place of a nodule.",
    ),
    Entry(
        "flow",
        "synthorax.systems.flow",
        frozenset({"makes patches", "injects", "erases"}),
        "store",
        "Flow matching: nodules drawn into a scan or out of it by any of their attributes, and CT patches.",
    ),
    Entry(
        "translation",
        "synthorax.systems.translation",
        frozenset({"paints", "makes patches"}),
        "store",
        "Pix2Pix and CycleGAN: label maps of tissues, nodules in them, painted as CT.",
    ),
    Entry(
        "ct-sgan",
        "synthorax.systems.ct_sgan",
        frozenset({"makes scans"}),
        "store",
        "CT-SGAN: whole chest CT, made slab by slab, of any depth.",
    ),
    Entry(
        "volume-gan",
        "synthorax.systems.volume_gan",
        frozenset({"makes scans"}),
        "store",
        "A vanilla 3D GAN of whole chests, with which CT-SGAN is compared.",
    ),
    Entry(
        "features",
        "synthorax.tasks.features",
        frozenset(),
        "store",
        "The network whose features generated patches are compared by.",
    ),
    Entry(
        "render",
        "synthorax.rendering",
        frozenset({"injects"}),
        "",
        "The classical baseline: real outlines rendered into the scan.",
    ),
)
"""The systems of this package."""


@dataclass(frozen=True)
class Registry:
    """All systems.

    Attributes:
        entries: by name, those of this package first.
        broken: other packages' systems that cannot be used, by name, each with the reason.
    """

    entries: Mapping[str, Entry]
    broken: Mapping[str, str]

    def __getitem__(self, name: str) -> Entry:
        if name in self.entries:
            return self.entries[name]
        if name in self.broken:
            raise InputError(f"system {name}", self.broken[name], "a system that loads")
        raise InputError("system", repr(name), " or ".join(self.entries))

    def trained(self, name: str) -> Entry:
        """Return a system that can be trained.

        Raises:
            InputError: no such system, or one that has nothing to train.
        """
        found = self[name] if name in self.broken and name not in self.entries else self.entries.get(name)
        if found is None or not found.is_trained:
            expected = " or ".join(self.having(lambda entry: entry.is_trained))
            raise InputError("system", repr(name), f"one that is trained: {expected}")
        return found

    def having(self, holds: Callable[[Entry], bool]) -> list[str]:
        """Names of the systems of which something holds."""
        return [name for name, entry in self.entries.items() if holds(entry)]


@cache
def registry() -> Registry:
    """The systems of this package and of the installed ones that have an entry point of the group.

    An entry point that does not load, is no `Entry`, was written for another contract, or has the name of a system
    that is there already is named in `broken`; the others go on.
    """
    entries = {entry.name: entry for entry in BUILT_IN}
    broken: dict[str, str] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        found = _entry(point, entries)
        if isinstance(found, Entry):
            entries[point.name] = found
        else:
            broken[point.name] = found
    return Registry(entries, broken)


def make_options(kind: type[Options], given: Mapping[str, Any], system: str) -> Options:
    """Return the options of a class of a system's by their names and values.

    Raises:
        InputError: an option that the class does not have, or a value that does not fit.
    """
    known = ", ".join(kind.model_fields) or "none"
    for name in given:
        if name not in kind.model_fields:
            raise InputError(name, f"an option that {system} does not have", f"options that it has: {known}")
    try:
        return kind(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise InputError(name, repr(first["input"])[:100], first["msg"].removeprefix("Input should be ")) from error


def _entry(point: EntryPoint, known: Mapping[str, Entry]) -> Entry | str:
    """The entry of an entry point, or why there is none."""
    where = point.dist.name if point.dist else point.module
    if point.name in known:
        return f"{where} has a system of this name too; that of {known[point.name].distribution} is used"
    try:
        found = point.load()
    except (Exception, SystemExit) as error:
        return f"{where}: {point.value} does not load ({' '.join(f'{type(error).__name__}: {error}'.split())[:200]})"
    if not isinstance(found, Entry):
        return f"{where}: {point.value} is a {type(found).__name__}, not a synthorax.registry.Entry"
    if found.api != API:
        return f"{where}: made for contract {found.api}; this synthorax has {API}; update the older of the two"
    if found.name != point.name:
        return f"{where}: an entry named {found.name!r} under the entry point {point.name!r}"
    if unknown := sorted(set(found.roles) - PARTS.keys()):
        return f"{where}: the role {unknown[0]!r}; a system {', '.join(PARTS)}"
    if found.data not in get_args(Data):
        return f"{where}: trained on {found.data!r}; a system learns from a store, from shapes, or from nothing ('')"
    return Entry(**{**vars(found), "distribution": where})
