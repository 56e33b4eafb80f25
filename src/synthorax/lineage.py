"""Whose data stands behind a maker or a sample. Neither torch nor pydantic here: packs are read without them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Lineage:
    """Whose data stands behind a maker or a sample.

    Patients are named by `provenance.patient_key`, so that a lineage may leave the machine with the samples.

    Attributes:
        name: of the maker.
        model_sha256: hash of its weights; empty if it has none.
        seen: patients whom the weights, or those they were started from, learned from.
        outlines: patients whose outlines or label maps were put into samples.
        tells: whether `seen` is known. A model without a record of its patients tells nothing.
    """

    name: str
    model_sha256: str = ""
    seen: frozenset[str] = frozenset()
    outlines: frozenset[str] = frozenset()
    tells: bool = True

    @property
    def patients(self) -> frozenset[str]:
        """Every patient of whom a sample may tell something."""
        return self.seen | self.outlines

    def with_outlines(self, outlines: Iterable[str]) -> Lineage:
        """The same lineage, with these patients as the only ones whose outlines were used."""
        return replace(self, outlines=frozenset(outlines) - {""})

    def joined(self, other: Lineage) -> Lineage:
        """The lineage of a composite of two makers; the first one names it."""
        return Lineage(
            self.name,
            self.model_sha256,
            self.seen | other.seen,
            self.outlines | other.outlines,
            self.tells and other.tells,
        )

    def row(self) -> dict[str, Any]:
        """The lineage as JSON can hold it; patients are words of one text, as hundreds of lines hide what is around."""
        return {
            "name": self.name,
            "model_sha256": self.model_sha256,
            "seen": " ".join(sorted(self.seen)),
            "outlines": " ".join(sorted(self.outlines)),
            "tells": self.tells,
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Lineage:
        """The lineage of such a row.

        Raises:
            ValueError: a row that `row()` did not make.
        """
        texts = [row.get("name"), *(row.get(name, "") for name in ("model_sha256", "seen", "outlines"))]
        if not all(isinstance(text, str) for text in texts) or not isinstance(row.get("tells", True), bool):
            raise ValueError("a lineage with a value that is no text")
        name, model_sha256, seen, outlines = map(str, texts)
        return cls(name, model_sha256, frozenset(seen.split()), frozenset(outlines.split()), row.get("tells", True))


def joined_lineages(lineages: Iterable[Lineage]) -> Lineage:
    """The lineage of all that some makers made together; its name tells theirs, each once."""
    makers = list(dict.fromkeys(lineages))
    whole = makers[0]
    for other in makers[1:]:
        whole = whole.joined(other)
    return replace(whole, name=", ".join(dict.fromkeys(one.name for one in makers)))
