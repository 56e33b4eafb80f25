"""The methods that the page offers, their forms, and their models, each loaded once."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from synthorax import hub
from synthorax.errors import InputError
from synthorax.makers import Maker, Names, Options, Role, meanings
from synthorax.nodule import MOST_RATING, ORDINARY_KIND, RATING_WORDS, RATINGS
from synthorax.registry import Entry, registry

EDITING_ROLES: tuple[Role, ...] = ("injects", "erases")
LEFT_TO_THE_METHOD = ""
"""Value of a form's field that the user leaves to the method."""


@dataclass(frozen=True)
class Offer:
    """A method on the page.

    Attributes:
        name: by which the page asks for it.
        system: name of its system in the registry; empty if that is not known.
        roles: that it has, of `EDITING_ROLES`.
        help: one line.
        reason: why it cannot be used; empty if it can.
        model: the bundled model's name, or the run folder; None for a system without weights.
    """

    name: str
    system: str
    roles: tuple[str, ...]
    help: str
    reason: str = ""
    model: str | Path | None = None

    def row(self) -> dict[str, Any]:
        """Return what the page needs, as JSON can hold it."""
        return {name: getattr(self, name) for name in ("name", "system", "roles", "help", "reason")}


class Methods:
    """The methods of the registry, of bundled models and of some run folders.

    Args:
        runs: run folders or weights files of trained models.
        device: on which models run.

    Raises:
        InputError: a run folder cannot be used.
    """

    def __init__(self, runs: Sequence[Path] = (), device: str = "cpu") -> None:
        self.device = device
        self._lock = threading.Lock()
        self._models: dict[str, hub.Model] = {}
        self._makers: dict[str, Maker] = {}
        self.offers = {offer.name: offer for offer in _offers(runs)}

    def usable(self, name: str, role: Role) -> Offer:
        """Return the offer of that name.

        Raises:
            InputError: there is none, it cannot be used, or it does not have the role.
        """
        found = self.offers.get(name)
        if found is None or role not in found.roles:
            able = [offer.name for offer in self.offers.values() if role in offer.roles and not offer.reason]
            raise InputError("method", repr(name), f"one that {role}: {', '.join(able) or 'none is here'}")
        if found.reason:
            raise InputError(name, found.reason, "a method that can be used")
        return found

    def method(self, name: str, role: Role) -> str | hub.Model:
        """Return what `inject` and `erase` take as their method: a name, or a model that is loaded once.

        Raises:
            InputError: as of `usable`, or the model cannot be loaded.
        """
        offer = self.usable(name, role)
        if offer.model is None:
            return offer.name
        with self._lock:
            if name not in self._models:
                self._models[name] = hub.load(offer.model)
            return self._models[name]

    def form(self, name: str) -> dict[str, Any]:
        """Return the form of a method: attributes that it heeds and options that it has; loads its model.

        Raises:
            InputError: the method cannot be used.
        """
        offer = self.offers.get(name)
        role: Role = "injects" if offer is None or "injects" in offer.roles else "erases"
        offer, method = self.usable(name, role), self.method(name, role)
        with self._lock:
            if name not in self._makers:
                self._makers[name] = hub.find(method, role, None, self.device)
            maker = self._makers[name]
        entry = registry()[offer.system]
        ratings = [_rating_field(rating) for rating in RATINGS if rating in maker.heeds and role == "injects"]
        options = [field for field in self._fields(entry.options) if field is not None]
        return {
            "name": name,
            "ratings": ratings,
            "options": options,
            "seen": len(maker.lineage.seen),
            "learned": entry.is_trained,
        }

    def options_of(self, name: str, given: Mapping[str, Any], role: Role) -> dict[str, Any]:
        """Return the options of a method from the values of its form.

        Raises:
            InputError: the method cannot be used, the form has no such field, or the field has no such choice.
        """
        offer = self.usable(name, role)
        kind = registry()[offer.system].options
        fields = {field["name"]: field for field in self._fields(kind) if field is not None}
        found: dict[str, Any] = {}
        for key, value in given.items():
            if key not in fields:
                raise InputError(key, f"an option that {name} does not have here", ", ".join(fields) or "no options")
            if value in (None, LEFT_TO_THE_METHOD, []):
                continue
            field = fields[key]
            if field["kind"] == "choice" and value not in [choice["value"] for choice in field["choices"]]:
                raise InputError(key, repr(value)[:100], ", ".join(str(c["value"]) for c in field["choices"]))
            if field["kind"] == "lines":
                if not isinstance(value, list) or not all(isinstance(line, str) for line in value):
                    raise InputError(key, repr(value)[:100], "lines of text")
                value = frozenset(line.strip() for line in value if line.strip())
            elif field["names"] and (run := self._run_of(value)) is not None:
                value = run
            found[key] = value
        registry()[offer.system].make_options(found)
        return found

    def _run_of(self, name: str) -> str | Path | None:
        offer = self.offers.get(name)
        return None if offer is None else offer.model

    def _fields(self, options: type[Options]) -> list[dict[str, Any] | None]:
        """The fields of a form; None for an option that only the command line has, such as a path."""
        texts = meanings(options)
        return [self._field(name, field, texts.get(name, "")) for name, field in options.model_fields.items()]

    def _field(self, name: str, field: FieldInfo, text: str) -> dict[str, Any] | None:
        made: dict[str, Any] = {"name": name, "help": text, "default": None, "names": False}
        marks = [mark for mark in field.metadata if isinstance(mark, Names)]
        if marks:
            words = [*sorted(marks[0].words), *hub.able((marks[0].role,))]
            words += [offer.name for offer in self.offers.values() if marks[0].role in _roles_of(offer)]
            choices = [{"value": word, "text": word} for word in dict.fromkeys(words)]
            return made | {"kind": "choice", "choices": choices, "names": True} if choices else None
        kind = _plain(field.annotation)
        default = field.default if isinstance(field.default, bool | int | float | str) else None
        made["default"] = default
        if get_origin(kind) is Literal:
            return made | {"kind": "choice", "choices": [{"value": v, "text": str(v)} for v in get_args(kind)]}
        if kind is bool:
            return made | {"kind": "switch"}
        if kind in (int, float):
            least = next((mark.ge for mark in field.metadata if hasattr(mark, "ge")), None)
            most = next((mark.le for mark in field.metadata if hasattr(mark, "le")), None)
            return made | {"kind": "whole" if kind is int else "number", "least": least, "most": most}
        if kind == frozenset[str]:
            return made | {"kind": "lines"}
        return None


def _offers(runs: Sequence[Path]) -> list[Offer]:
    """The offers: systems without weights, bundled models, run folders, then what cannot be used."""
    usable, others = [], []
    bundled = {name: hub.system_of(folder).name for name, folder in hub.bundled().items()}
    given: dict[str, list[tuple[str, Path]]] = {}
    for run in runs:
        entry, name, number = hub.system_of(run), run.resolve().name, 1
        taken = {*bundled, *registry().entries, *(each for known in given.values() for each, _ in known)}
        if not _editing_roles(entry) and "makes shapes" not in entry.roles:
            raise InputError(run, f"a model of {entry.name}", hub.who(EDITING_ROLES))
        while name in taken:
            number, name = number + 1, f"{run.resolve().name}-{number + 1}"
        given.setdefault(entry.name, []).append((name, run))
    for entry in registry().entries.values():
        roles = _editing_roles(entry)
        models: list[tuple[str, str | Path]] = [(name, name) for name, of in bundled.items() if of == entry.name]
        models += given.get(entry.name, [])
        if not roles and not any(isinstance(model, Path) for _, model in models):
            continue
        if not entry.is_trained:
            usable.append(Offer(entry.name, entry.name, roles, entry.help))
        for name, model in models:
            usable.append(Offer(name, entry.name, roles, entry.help, model=model))
        if entry.is_trained and not models:
            reason = (
                f"no weights come with synthorax; train some with `synthorax train {entry.name}` and start the studio "
                "with `--model RUN`"
            )
            others.append(Offer(entry.name, entry.name, roles, entry.help, reason))
    for name, reason in registry().broken.items():
        others.append(Offer(name, "", EDITING_ROLES, "A system of another package.", reason))
    usable.sort(key=lambda offer: offer.name != "render")
    return [*usable, *others]


def _editing_roles(entry: Entry) -> tuple[Role, ...]:
    """The roles of a system's models on the page; a maker of patches injects too."""
    roles = [role for role in EDITING_ROLES if role in entry.roles]
    if "injects" not in roles and hub.blends(entry.roles):
        roles.insert(0, "injects")
    return tuple(roles)


def _roles_of(offer: Offer) -> frozenset[Role]:
    return registry()[offer.system].roles if offer.system and not offer.reason else frozenset()


def _rating_field(name: str) -> dict[str, Any]:
    words = [{"value": value, "text": word} for word, value in RATING_WORDS.get(name, {}).items()]
    return {"name": name, "least": 1, "most": MOST_RATING[name], "words": words, "kinds": name in ORDINARY_KIND}


def _plain(kind: Any) -> Any:
    """A type without the marks around it and without None; of several the one that a form can hold."""
    if get_origin(kind) is Annotated:
        return _plain(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        parts = [_plain(part) for part in get_args(kind) if part not in (NoneType, Path)]
        return parts[0] if len(parts) == 1 else Any
    return kind
