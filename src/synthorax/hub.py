"""Finding and loading a model by the name of a bundled model, its run folder, or a weights file.

A bundled model is a folder of `pretrained/`. Like a run folder it has `config.yaml`, `weights.safetensors` and
`data.json`, which lists the patients that the model and the models it was started from were trained on. It also has
`card.md`: YAML between two lines of `---`, with the hash of the weights, then text.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from synthorax.errors import InputError
from synthorax.io.mappings import parse_yaml, read_mapping
from synthorax.makers import Generator, Lineage, Maker, Names, Options, Role, check_heeds, check_maker, check_returned
from synthorax.nodule import NoduleAttributes
from synthorax.provenance import patient_key, sha256
from synthorax.registry import OWN, Entry, place_in_plugin, registry
from synthorax.training.files import BEST, CONFIG, DATA, WEIGHTS

if TYPE_CHECKING:
    from synthorax.training.system import System
    from synthorax.training.trainable import Trainable


Made = TypeVar("Made", bound=Maker)

PRETRAINED = Path(__file__).parent / "pretrained"
CARD = "card.md"
DATA_PLACES = {"store": "STORE", "shapes": "SHAPES"}
"""What a command shows for the training data of a kind."""
EDITS: frozenset[Role] = frozenset({"injects", "erases"})
"""Roles whose makers get their options when they are made, not at each call."""
USED_BY: Mapping[Role, str] = {
    "makes shapes": "`synthorax sample {0}` and `synthorax inject SCAN --shapes {0}`",
    "makes patches": "`synthorax sample {}`",
    "makes scans": "`synthorax sample {}`",
    "injects": "`synthorax inject SCAN --with {}`",
    "erases": "`synthorax erase SCAN --with {}`",
    "paints": "`synthorax translate LABELS --with {}`",
}
"""The commands that use a maker of a role, with a place for its name."""
MODEL_FORMAT = 1
"""Format of a model's folder; a folder with a higher number was written by a later synthorax."""


_kept: ContextVar[dict[Path, Model] | None] = ContextVar("kept", default=None)
"""Models by their weights files, which `load` returns again within a block of `loading_once`; None outside."""


@dataclass(frozen=True, eq=False)
class Model:
    """A trained system, the hash of its weights and the patients behind them.

    Attributes:
        system: networks with their weights.
        sha256: hash of the weights file.
        seen: ids of the patients that the model, and all models that it was started from, were trained on; without
            the validation patients, by whom its weights were chosen. Empty if no `data.json` lies beside the weights.
    """

    system: System
    sha256: str
    seen: frozenset[str] = frozenset()

    @property
    def lineage(self) -> Lineage:
        """The patients behind the weights, as pseudonyms, since samples leave this machine."""
        return Lineage(self.system.name, self.sha256, frozenset(map(patient_key, self.seen)), tells=bool(self.seen))

    def maker(self, options: Options | None = None) -> Maker:
        """Return the maker of voxels that uses this model.

        Args:
            options: options of its editing; those of a maker that only samples are given to its `sample` instead.

        Raises:
            InputError: the model makes no voxels, or its maker lacks a part that its roles promise.
        """
        made = self.system.maker(self.lineage) if options is None else self.system.editor(self.lineage, options)
        return _with_options(check_maker(made, made.roles), options)


def find(
    what: str | Path | Model | Maker, role: Role | tuple[Role, ...], options: Options | None = None, device: str = "cpu"
) -> Maker:
    """Return a maker that has a role, or one of several roles.

    A model that makes patches, unless it paints, can be found as one that injects: its nodules are blended into scans
    (`editing.blended`).

    Args:
        what: a maker, which is returned as it is; the name of a system without weights; or a model, as `load` takes it.
        role: one role, or several of which the maker has at least one.
        options: options of the system's editing; or of its sampling, if its patches are blended into scans.
        device: on which the model's networks run.

    Raises:
        InputError: there is no such system or model, or it has none of the roles; names the systems and models that do.
    """
    roles = (role,) if isinstance(role, str) else role
    maker = _maker(what, options, device)
    if maker is not None and maker.roles.isdisjoint(roles) and "injects" in roles and blends(maker.roles):
        if cure := getattr(maker, "masks_missing", ""):
            named = what if isinstance(what, str | Path) else maker.name
            found = "a model whose nodules have no masks, which injecting needs"
            raise InputError(named, found, f"a model that makes masks; {cure}")
        from synthorax.editing.blended import Blended  # imports SciPy, which takes half a second

        chosen = own_options(maker) if options is None else options
        return _with_options(Blended(cast(Generator, maker), chosen), chosen)
    if maker is None or maker.roles.isdisjoint(roles):
        found = " and ".join(sorted(maker.roles)) if maker else "makes no voxels"
        named = what.system.name if isinstance(what, Model) else getattr(maker, "name", "maker")
        subject = what if isinstance(what, str | Path) else named
        used = uses(subject, maker.roles if maker else ())
        raise InputError(subject, f"a system that {found}", f"one that {' or '.join(roles)}: {who(roles)}{used}")
    return maker


def _maker(what: str | Path | Model | Maker, options: Options | None, device: str) -> Maker | None:
    """Return the maker that `what` is or names; None for a network that makes no voxels."""
    if isinstance(what, str | Path):
        if (entry := _without_weights(what)) is not None:
            chosen = with_makers(entry.options() if options is None else options)
            return _with_options(check_maker(entry.load("maker", "maker")(chosen), entry.roles), chosen)
        what = load(what)
    if not isinstance(what, Model):
        return check_maker(what, what.roles)
    roles = registry()[what.system.name].roles
    if not roles:
        return None
    if device != "cpu":
        from synthorax.training.devices import make_fabric

        what.system.move(make_fabric(device).device)
    edits = None if options is None or roles.isdisjoint(EDITS) else with_makers(options)
    return what.maker(edits)


def _with_options(maker: Made, options: Options | None) -> Made:
    """Note the options of a maker in its attribute `options`, from which `provenance.making_key` reads them."""
    if options is not None:
        with suppress(AttributeError):  # of a frozen class of another package
            cast(Any, maker).options = options
    return maker


def own_options(maker: Maker) -> Options | None:
    """Return the options that a maker was made with; None if all of them are the defaults."""
    own = getattr(maker, "options", None)
    return own if isinstance(own, Options) and own.given() else None


def options_for(maker: Maker, given: Mapping[str, Any]) -> Options | None:
    """Return the options of a call, on top of those that the maker was made with; None if all are the defaults.

    Raises:
        InputError: the maker's system has no such option, or a value does not fit.
    """
    own = own_options(maker)
    if not given:
        return own
    return with_makers(registry()[maker.name].make_options({**(own.given() if own else {}), **given}))


def with_makers(options: Options) -> Options:
    """Return the options with each model that an option names (`makers.Names`) replaced by the model's maker."""
    from synthorax.io.contents import what_is
    from synthorax.io.images import is_image

    found = {}
    for name, field in type(options).model_fields.items():
        value = getattr(options, name)
        is_model = isinstance(value, Model) or (isinstance(value, str | Path) and not is_image(Path(value)))
        for mark in field.metadata:
            if isinstance(mark, Names) and is_model and value not in mark.words:
                if isinstance(value, str | Path) and (kind := what_is(Path(value))):
                    raise InputError(value, kind, f"a mask image, or a model that {mark.role}")
                found[name] = find(value, mark.role)
    return options.model_copy(update=found)


def system_of(model: Path | str) -> Entry:
    """Return the registry's entry of a model's system, or of a system without weights; reads no weights.

    Args:
        model: a model, as `load` takes it, or the name of a system without weights.

    Raises:
        InputError: there is no such model or system.

    >>> system_of("ac-wgan").name, system_of("render").is_trained
    ('ac-wgan', False)
    """
    if (entry := _without_weights(model)) is not None:
        return entry
    folder, _ = _places(model)
    return registry()[_read_config(folder / CONFIG)[0]]


def _without_weights(name: str | Path) -> Entry | None:
    """Return the system without weights of that name; None if there is none, or if a file or model has the name."""
    entry = registry().entries.get(str(name))
    return entry if entry is not None and not entry.is_trained and not _is_model(Path(name)) else None


def _is_model(path: Path) -> bool:
    """Return whether a path is that of a file or of a model's folder, which goes before a system or bundled model."""
    return path.is_file() or (path / CONFIG).is_file()


def able(roles: tuple[Role, ...]) -> list[str]:
    """Return the names of the systems without weights and of the bundled models that have one of some roles, sorted."""
    systems = [name for name in _having(roles) if not registry()[name].is_trained]
    models = [name for name, folder in bundled().items() if system_of(folder).name in _having(roles)]
    return sorted({*systems, *models})


def who(roles: tuple[Role, ...], but: str = "") -> str:
    """Return, for a message, what has one of some roles: systems without weights, bundled models, run folders.

    Args:
        roles: roles, of which the maker must have at least one.
        but: a name to leave out.
    """
    can = [name for name in able(roles) if name != but]
    trained = [name for name in _having(roles) if registry()[name].is_trained and name not in {*can, but}]
    runs = f"a run folder of {' or '.join(trained)}" if trained else "a run folder"
    return f"{', '.join(can)}; or {runs}" if can else runs


def uses(name: str | Path, roles: Collection[str] | None = None, *, has_masks: bool = True) -> str:
    """Return, for a message about a model in the wrong place, the commands that use it; empty if there are none.

    Args:
        name: name or run folder of the model or system.
        roles: its roles; None to look them up, which gives an empty text if there is no such model or system.
        has_masks: whether its samples have masks, which `inject` needs to blend their nodules in.
    """
    argument = subject = str(name)
    entry = registry().entries.get(argument)
    if entry is not None and argument not in bundled() and not Path(name).exists():
        roles = entry.roles
        if entry.is_trained:  # no weights of it are bundled
            argument, subject = "RUN", f"a run folder of {name}"
    elif roles is None:
        try:
            roles = system_of(name).roles
        except InputError:
            return ""
    using = [
        role for role in USED_BY if role in (roles or ()) or (role == "injects" and has_masks and blends(roles or ()))
    ]
    commands = dict.fromkeys(USED_BY[role].format(argument) for role in using)
    return f"; {subject} is used by {' and '.join(commands)}" if commands else ""


def masks_missing(run: str | Path) -> str:
    """Return how to train masks for a model of patches whose nodules have none; empty if they have, or if it fails."""
    try:
        return str(getattr(load(run).maker(), "masks_missing", ""))
    except Exception:  # whatever another package raises; the verbs that use the model tell it
        return ""


def takes_outlines(maker: Maker) -> bool:
    """Return whether a maker takes the outlines of the nodules that it makes."""
    return bool(getattr(maker, "takes_outlines", False))


def those(role: Role, fits: Callable[[Maker], bool]) -> list[str]:
    """Return the names of the systems without weights and of the bundled models that have a role and fit, sorted.

    All of them are loaded, which takes seconds; a system that does not load is left out.

    Args:
        role: role of the makers.
        fits: returns whether a maker fits.
    """
    found = []
    for name in able((role,)):
        try:
            found += [name] * fits(find(name, role))
        except Exception:  # another package's system may raise anything, and its own verb tells of it
            continue
    return found


def check_uses(maker: Maker, asked: Iterable[NoduleAttributes], role: Role) -> None:
    """Refuse requested attributes that a maker does not use, as `makers.check_heeds` does, and name those that use one.

    Args:
        maker: the maker.
        asked: attributes that are requested.
        role: role in which the maker is called, which the others have too.

    Raises:
        InputError: names the attribute, the attributes that the maker uses, and the others that use it.
    """
    try:
        check_heeds(maker, asked)
    except InputError as error:
        name, found, expected = error.args
        users = those(role, lambda other: name in other.heeds)
        by = f"; {name} is used by {', '.join(users)}" if users else ""
        raise InputError(name, found, expected + by) from error


def _having(roles: tuple[Role, ...]) -> list[str]:
    """Names of the systems whose makers have one of some roles."""
    return sorted(registry().having(lambda entry: has_role(entry.roles, roles)))


def has_role(own: Collection[str], roles: tuple[Role, ...]) -> bool:
    """Return whether a maker has one of some roles; one whose patches can be blended also counts as one that injects.

    Args:
        own: roles that the maker declares.
        roles: roles, of which it must have at least one.
    """
    return any(role in own for role in roles) or ("injects" in roles and blends(own))


def blends(roles: Collection[str]) -> bool:
    """Whether the nodules of a maker with these roles can be blended into scans, out of the patches that it makes.

    A painter's are not: it makes its volumes from label maps, and a nodule would need many of them, minutes of work.
    """
    return "makes patches" in roles and "paints" not in roles


def default(role: Role) -> str:
    """Return the name of the first bundled model that has a role.

    Raises:
        InputError: no bundled model has it.
    """
    for name, folder in bundled().items():
        if role in system_of(folder).roles:
            return name
    raise InputError("model", f"no bundled model that {role}", "a model's run folder")


def start_from(model: Trainable, first: Model) -> None:
    """Load the weights of another model into a new one, as the start of a training.

    Args:
        model: a model that has not been trained yet.
        first: the model whose weights are loaded.

    Raises:
        InputError: `first` is of another system, or its networks have other sizes.
    """
    if first.system.name != model.name:
        raise InputError("from", f"a model of {first.system.name}", f"a model of {model.name}")
    try:
        model.start_from(first.system.weights())
    except RuntimeError as error:
        raise InputError(
            "from", f"weights that do not fit ({_reason(error)})", f"a {model.name} with networks of the same sizes"
        ) from error


@dataclass(frozen=True)
class Card:
    """The card of a bundled model.

    Attributes:
        facts: name, system, preset, what it makes, figures, patients, licence, `weights_sha256` and more.
        text: the same for a human reader, in Markdown.
    """

    facts: Mapping[str, Any]
    text: str


def bundled() -> dict[str, Path]:
    """Return the folders of the models that come with the package, by the models' names."""
    return {card.parent.name: card.parent for card in sorted(PRETRAINED.glob(f"*/{CARD}"))}


def read_card(folder: Path) -> Card:
    """Read the card of a bundled model.

    Raises:
        InputError: there is no card, or it is not as `scripts/bundle_model.py` writes it.
    """
    try:
        _, facts, text = (folder / CARD).read_text().split("---\n", 2)
        return Card(dict(parse_yaml(facts)), text.strip() + "\n")
    except (OSError, ValueError, TypeError) as error:
        raise InputError(folder / CARD, "no readable card", "YAML between two lines of ---, then text") from error


@contextmanager
def loading_once() -> Iterator[None]:
    """Let all calls of `load` in a block load each model once, such as a check of a request and the edit after it."""
    if _kept.get() is not None:
        yield
        return
    token = _kept.set({})
    try:
        yield
    finally:
        _kept.reset(token)


def load(model: Path | str) -> Model:
    """Load a model with its weights, ready to sample.

    Args:
        model: a bundled model's name, a run folder, or a weights file with its `config.yaml` beside it. A file or run
            folder of that name goes before a bundled model. If the run was validated, its best weights are loaded.

    Raises:
        InputError: there is no such model; the run has not saved weights yet; the weights are damaged, of another
            system, version or network size, or their hash is not the card's; `data.json` is damaged.
    """
    folder, weights = _places(model)
    kept = _kept.get()
    if kept is not None and (known := kept.get(weights.resolve())) is not None:
        return known
    if not weights.is_file():
        raise InputError(folder, f"no {WEIGHTS}", "a run that has saved its weights at least once")
    name, config = _read_config(folder / CONFIG)
    digest = sha256(weights)
    if (folder / CARD).is_file() and weights.name == WEIGHTS:
        stated = str(read_card(folder).facts.get("weights_sha256"))
        if stated != digest:
            raise InputError(weights, f"weights of SHA-256 {digest[:16]}...", f"{stated[:16]}..., as in {CARD}")
    made = Model(_restore(name, config, folder / CONFIG, weights), digest, _seen(folder / DATA))
    if kept is not None:
        kept[weights.resolve()] = made
    return made


def training_command(entry: Entry) -> str:
    """Return the command that trains a system, with places for the data and the run folder."""
    return f"synthorax train {entry.name} --data {DATA_PLACES[entry.data]} --out RUN"


def _places(model: Path | str) -> tuple[Path, Path]:
    """Return the folder and the weights file of a model, as `load` takes it."""
    path = Path(model)
    is_name = str(model) in bundled() or str(model) in registry().entries
    if not path.exists() or (is_name and not _is_model(path)):
        if str(model) not in (known := bundled()):
            if (entry := registry().entries.get(str(model))) is not None and entry.is_trained:
                found = "a system that has no bundled weights"
                raise InputError(model, found, f"a run folder of it; train it first: {training_command(entry)}")
            if entry is not None:
                raise InputError(model, "a system without weights", f"a model with weights{uses(model)}")
            names = f"or a bundled model: {', '.join(known)}" if known else "no model is bundled"
            found = "no config.yaml, and no bundled model of that name"
            raise InputError(model, found, f"a run folder, as `synthorax train` makes; {names}")
        path = known[str(model)]
    folder, weights = (path, path / WEIGHTS) if path.is_dir() else (path.parent, path)
    if path.is_dir() and (path / BEST).is_file():
        weights = path / BEST
    if not (folder / CONFIG).is_file():
        raise InputError(path, "no config.yaml", "a run folder, as `synthorax train` makes")
    return folder, weights


def _read_config(file: Path) -> tuple[str, Mapping[str, Any]]:
    """System and configuration of a model."""
    try:
        content = read_mapping(file, "configuration")
        name, config, form = str(content["system"]), dict(content["config"]), content.get("format", MODEL_FORMAT)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(
            file, "a damaged configuration", "system and config, as `synthorax train` wrote them"
        ) from error
    if form != MODEL_FORMAT:
        raise InputError(
            file, f"a model of format {form}", f"format {MODEL_FORMAT}, which this synthorax reads; update it"
        )
    package = content.get("distribution", OWN)
    known = registry().entries.get(name)
    if known is None or known.distribution != package:
        expected = f"{' or '.join(registry().entries)}, which this synthorax knows; update it for others"
        if package != OWN:
            release = f"{package} {content.get('version', '')}".strip()
            install = "install it from where you or its authors keep it, which may not be PyPI"
            reason = registry().why_missing(name, package) or install
            expected = f"the package {release}, which has that system ({reason})"
        raise InputError(file, f"a model of the system {name!r}", expected)
    return name, config


def _seen(file: Path) -> frozenset[str]:
    """Return the patients that a model has seen, by its `data.json`; empty if there is no such file."""
    from synthorax.training.run_folder import seen_patients  # imports torch, which takes a second

    if not file.is_file():
        return frozenset()
    try:
        return seen_patients(read_mapping(file))
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(file, "a damaged file", "a model's patients, as `synthorax train` writes them") from error


def _restore(name: str, config: Mapping[str, Any], file: Path, weights: Path) -> System:
    """Return the system of a configuration with the weights of a file, in float32."""
    from pydantic import ValidationError
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from synthorax.training.trainable import FACTS, Trainable

    try:
        tensors = {key: t.float() if t.is_floating_point() else t for key, t in load_file(weights).items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(weights, f"a damaged file ({_reason(error)})", "a safetensors file") from error
    try:
        system: System = registry()[name].load("system", "System").restore(config, tensors)
    except ValidationError as error:
        first = error.errors()[0]
        setting = ".".join(map(str, first["loc"]))
        found = f"a damaged configuration, or a configuration of another version ({setting}: {first['msg']})"
        raise InputError(file, found, f"settings that {name} has in this synthorax") from error
    except InputError as error:  # about a setting, which does not know its file
        raise InputError(file, f"{error.args[0]} {error.args[1]}", error.args[2]) from error
    except (RuntimeError, LookupError, TypeError, ValueError) as error:
        expected = f"weights of {name} as {file.name} describes it"
        cause = ", ".join(filter(None, (_reason(error), place_in_plugin(error))))
        raise InputError(weights, f"damaged weights, or weights of other networks ({cause})", expected) from error
    check_returned(name, "the result of `restore`", system, Trainable, "the system with these weights")
    for key, tensor in system.weights().items():
        if not key.startswith(FACTS) and not tensor.isfinite().all():
            raise InputError(
                weights, f"NaN or infinite weights ({key})", "finite weights; copy the file again, or train again"
            )
    return system


def _reason(error: Exception) -> str:
    """Return the error's text on one line; of several lines the last."""
    lines = str(error).splitlines() or [type(error).__name__]
    return " ".join(" ".join(lines[-1:] if len(lines) > 1 else lines).split())[:200]
