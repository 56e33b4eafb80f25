"""The list of systems. A system is imported when it is used; no torch here.

Another package adds a system by an entry point of the group `synthorax.systems` that names an `Entry`. Entry points are
found wherever the package is installed, also in spawned processes and in the workers of a cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from itertools import groupby
from operator import attrgetter
from traceback import walk_tb
from typing import Any, Literal, get_args

from pydantic import BaseModel, ValidationError

from synthorax.errors import InputError
from synthorax.makers import PARTS, Options, Role

API = 1
"""Version of the contract between this package and a system: the modules that docs/extending.md calls stable."""
OWN = "synthorax"
"""The distribution that holds this package."""
GROUP = "synthorax.systems"
"""Entry-point group of other packages' systems."""
Data = Literal["store", "shapes", ""]
"""A system's training data: a prepared store, nodule shapes, or none for a system without weights."""


@dataclass(frozen=True)
class Entry:
    """A system: its package and its roles.

    The package of a system without weights has two modules:

    - `config`, without torch: `Options`, the class of its options for sampling and editing.
    - `maker`: the function `maker(options)`.

    The package of a trained system has three modules:

    - `config`, without torch: `Options`, `Config`, and `PRESETS`, the first of which is the default. Optional are
      `ABOUT_PRESETS`, a line of help for each preset; `CORE_SECONDS` and `CPU_PRESET`, for a warning on a CPU;
      `TrainingOptions`; and `FLAGS`, the settings that have a flag.
    - `system`: the class `System` with `restore` and `maker`.
    - `training`: the function `training(config, data, seed, options)`.

    Attributes:
        name: name by which users choose the system.
        package: module path.
        roles: roles of its maker, of those in `makers.Role`; empty for a network that only measures.
        data: kind of its training data, `store` or `shapes`; empty for a system without weights.
        help: one line for the verbs' help.
        api: version of the contract for which it was written.
        distribution: name of the package to install where the system is missing. The registry fills it in; a package
            leaves it out of its entry.
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
    def version(self) -> str:
        """Version of the installed package that has the system; empty if it is not known."""
        return with_version(self.distribution).removeprefix(self.distribution).strip()

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
        """A line of help for each preset; empty if the system gives none."""
        return self.load("config", "ABOUT_PRESETS", {})

    @property
    def core_seconds(self) -> Mapping[str, float | None]:
        """Seconds of a CPU's core for a step, for each preset too large for a CPU; None where nobody measured it."""
        return self.load("config", "CORE_SECONDS", {})

    @property
    def cpu_preset(self) -> str:
        """Name of the preset that suits a CPU; empty if the system names none."""
        return self.load("config", "CPU_PRESET", "")

    @property
    def flags(self) -> tuple[str, ...]:
        """Settings of its configuration that have a flag of their own."""
        return self.load("config", "FLAGS", ())

    @property
    def training_options(self) -> type[Options]:
        """The class of its options for training, beside the configuration."""
        return self.load("config", "TrainingOptions", Options)

    def make_options(self, given: Mapping[str, Any]) -> Options:
        """Return the options for sampling and editing with these values, by name.

        Raises:
            InputError: the system has no such option, or a value does not fit.
        """
        return make_options(self.options, given, self.name)

    def make_training_options(self, given: Mapping[str, Any]) -> Options:
        """Return the options for training with these values, by name.

        Raises:
            InputError: the system has no such option, or a value does not fit.
        """
        return make_options(self.training_options, given, self.name)

    def load(self, module: str, name: str, default: Any = None) -> Any:
        """Return an object of one of the system's modules.

        Args:
            module: name of the module in the system's package.
            name: name of the object.
            default: returned if the module lacks the object.

        Raises:
            InputError: the module does not load, or lacks the object and there is no default; names the package.
        """
        mend = f"a module as docs/extending.md describes it; update {self.distribution}, or correct it if it is yours"
        try:
            found = import_module(f"{self.package}.{module}")
        except InputError:
            raise
        except (Exception, SystemExit) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise InputError(self.name, f"{self.package}.{module} does not load ({reason})", mend) from error
        if not hasattr(found, name) and default is None:
            raise InputError(f"{self.package}.{module}", f"no {name}", mend)
        return getattr(found, name, default)


BUILT_IN = (
    Entry(
        "lung",
        "synthorax.systems.lung",
        frozenset({"makes shapes"}),
        "shapes",
        "LuNG, an autoencoder of nodule shapes.",
    ),
    Entry(
        "ac-wgan",
        "synthorax.systems.ac_wgan",
        frozenset({"makes patches", "judges"}),
        "store",
        "AC-WGAN-GP of Cui's thesis (2019): makes CT patches with and without a nodule.",
    ),
    Entry(
        "class-aware",
        "synthorax.systems.class_aware",
        frozenset({"injects"}),
        "store",
        "Class-aware in-painter: puts benign or malignant nodules of a given diameter into scans.",
    ),
    Entry(
        "injector",
        "synthorax.systems.injector",
        frozenset({"injects"}),
        "store",
        "CT-SGAN's nodule injector: puts nodules into scans.",
    ),
    Entry(
        "eraser",
        "synthorax.systems.eraser",
        frozenset({"erases"}),
        "store",
        "CT-SGAN's nodule eraser: replaces nodules in scans with healthy lung.",
    ),
    Entry(
        "flow",
        "synthorax.systems.flow",
        frozenset({"makes patches", "injects", "erases"}),
        "store",
        "Flow matching: puts nodules with given attributes into scans, erases them, and makes CT patches.",
    ),
    Entry(
        "translation",
        "synthorax.systems.translation",
        frozenset({"paints", "makes patches"}),
        "store",
        "Pix2Pix and CycleGAN: make CT from label maps of tissues with nodules.",
    ),
    Entry(
        "ct-sgan",
        "synthorax.systems.ct_sgan",
        frozenset({"makes scans"}),
        "store",
        "CT-SGAN: makes whole chest CT of any depth, slab by slab.",
    ),
    Entry(
        "volume-gan",
        "synthorax.systems.volume_gan",
        frozenset({"makes scans"}),
        "store",
        "Vanilla 3D GAN: makes whole chest CT, the baseline of CT-SGAN.",
    ),
    Entry(
        "features",
        "synthorax.tasks.features",
        frozenset(),
        "store",
        "Feature network: FID and KID compare generated and real patches by its features.",
    ),
    Entry(
        "render",
        "synthorax.rendering",
        frozenset({"injects"}),
        "",
        "Classical baseline: renders nodules with real outlines into scans.",
    ),
)
"""The systems of this package."""


@dataclass(frozen=True)
class Registry:
    """All systems.

    Attributes:
        entries: name -> system, this package's systems first.
        broken: name -> reason, of other packages' systems that cannot be used.
    """

    entries: Mapping[str, Entry]
    broken: Mapping[str, str]

    def __getitem__(self, name: str) -> Entry:
        if name in self.entries:
            return self.entries[name]
        if name in self.broken:
            raise InputError(f"system {name}", self.broken[name], "a system that can be used, see docs/extending.md")
        raise InputError("system", repr(name), f"one of {', '.join(self.entries)}{self._not_usable()}")

    def trained(self, name: str) -> Entry:
        """Return a system that can be trained.

        Raises:
            InputError: there is no such system, or it has no weights to train.
        """
        found = self[name] if name in self.broken and name not in self.entries else self.entries.get(name)
        if found is None or not found.is_trained:
            expected = ", ".join(self.having(lambda entry: entry.is_trained))
            more = self._not_usable() if found is None else f"; {name} has no weights, and is used by its name"
            raise InputError("system", repr(name), f"a system with weights to train: {expected}{more}")
        return found

    def why_missing(self, name: str, distribution: str) -> str:
        """Return why a system of a package is not in `entries`, though the package is installed.

        Args:
            name: the system.
            distribution: the package.

        Returns:
            The reason; empty if the package is not installed.
        """
        if name in self.broken:
            return self.broken[name]
        if with_version(distribution) == distribution:
            return ""
        others = [f"{each} ({why})" for each, why in self.broken.items() if why.startswith(f"{distribution}: ")]
        if others:
            return f"it is installed, but its entry point is not usable: {'; '.join(others)}"
        return f"it is installed, but has no entry point {name} of the group {GROUP}; install it again"

    def _not_usable(self) -> str:
        """Return the systems that cannot be used with the reasons, to follow a list of the others."""
        broken = "; ".join(f"{name} ({why})" for name, why in self.broken.items())
        return f"; not usable: {broken}" if broken else ""

    def having(self, holds: Callable[[Entry], bool]) -> list[str]:
        """Return the names of the systems for which `holds` is true."""
        return [name for name, entry in self.entries.items() if holds(entry)]


@cache
def registry() -> Registry:
    """Return the systems of this package and of installed packages with an entry point of the group.

    An entry point is listed in `broken`, and does not disturb the others, if it does not load, is no `Entry`, was
    written for another version of the contract, or has the name of a system of this package. Of several packages with a
    system of one name, none is used, since a user could not know which.
    """
    entries = {entry.name: entry for entry in BUILT_IN}
    broken: dict[str, str] = {}
    for name, same in groupby(
        sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)), attrgetter("name")
    ):
        first, *others = same
        if others:
            packages = " and ".join(map(_distribution, (first, *others)))
            broken[name] = f"the packages {packages} each have a system of this name; uninstall all but one"
            continue
        found = _entry(first, entries)
        if isinstance(found, Entry):
            entries[name] = found
        else:
            broken[name] = found
    return Registry(entries, broken)


def make_options(kind: type[Options], given: Mapping[str, Any], system: str) -> Options:
    """Return options of a class with these values, by name.

    Args:
        kind: class of the options.
        given: name -> value.
        system: name of the system, for errors.

    Raises:
        InputError: the class has no such option, or a value does not fit.
    """
    known = ", ".join(kind.model_fields) or "none"
    for name in given:
        if name not in kind.model_fields:
            raise InputError(name, f"an option that {system} does not have", f"options of {system}: {known}")
    try:
        return kind(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise InputError(name, repr(first["input"])[:100], first["msg"].removeprefix("Input should be ")) from error


def place_in_plugin(error: BaseException) -> str:
    """Return the package, file and line of another package's system in which an error was raised, or that led to it.

    The text is empty if no other package's system was at work.
    """
    others = {e.package.partition(".")[0]: e.distribution for e in registry().entries.values() if e.distribution != OWN}
    for frame, line in reversed(list(walk_tb(error.__traceback__))):
        if package := others.get(str(frame.f_globals.get("__name__", "")).partition(".")[0]):
            return f"{with_version(package)}, {frame.f_code.co_filename}, line {line}"
    return ""


def with_version(distribution: str) -> str:
    """Return the name of an installed distribution with its version, as in `toy 1.0`; without it if it is not known."""
    try:
        return f"{distribution} {version(distribution)}"
    except (PackageNotFoundError, ValueError):
        return distribution


def _distribution(point: EntryPoint) -> str:
    """Return the package that has an entry point."""
    return point.dist.name if point.dist else point.module


def _entry(point: EntryPoint, known: Mapping[str, Entry]) -> Entry | str:
    """Return the entry of an entry point, or the reason why it cannot be used."""
    where = _distribution(point)
    if point.name in known:
        return f"{where} has a system of this name too; the system of {known[point.name].distribution} is used"
    try:
        found = point.load()
    except (Exception, SystemExit) as error:
        return f"{where}: {point.value} does not load ({' '.join(f'{type(error).__name__}: {error}'.split())[:200]})"
    if not isinstance(found, Entry):
        return f"{where}: {point.value} is of type {type(found).__name__}, not a synthorax.registry.Entry"
    if found.api != API:
        return f"{where}: made for contract {found.api}, but this synthorax has {API}; update the older of the two"
    if found.name != point.name:
        return f"{where}: an entry named {found.name!r} under the entry point {point.name!r}"
    if isinstance(found.roles, str):
        return f"{where}: the text {found.roles!r} as roles; expected a set of names, such as frozenset({{'injects'}})"
    if unknown := sorted(set(found.roles) - PARTS.keys()):
        return f"{where}: the role {unknown[0]!r} is unknown; the roles are {', '.join(PARTS)}"
    if found.data not in get_args(Data):
        return f"{where}: unknown training data {found.data!r}; a system is trained on store, shapes or nothing ('')"
    return Entry(**{**vars(found), "roles": frozenset(found.roles), "distribution": where})
