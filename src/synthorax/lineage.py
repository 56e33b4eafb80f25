"""The lineage of a maker or a sample: the patients whose data stand behind it.

Neither torch nor pydantic here: packs are read without them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Lineage:
    """The patients whose data stand behind a maker or a sample.

    Patients are named by `provenance.patient_key`, so that a lineage may leave the machine with the samples.

    Attributes:
        name: name of the maker.
        model_sha256: hash of the maker's weights, or the hashes of several makers with commas between them; empty for
            makers without weights.
        seen: patients on whom the weights, or weights that they were started from, were trained.
        outlines: patients whose outlines or label maps were put into samples.
        tells: whether `seen` is known; False for a model without a record of its patients.

    >>> shapes = Lineage("lung", seen=frozenset({"3bb5d67ab461"}))
    >>> scans = Lineage("ct-sgan", seen=frozenset({"0a1b2c3d4e5f"}))
    >>> both = scans.joined(shapes)
    >>> both.name, sorted(both.patients)
    ('ct-sgan', ['0a1b2c3d4e5f', '3bb5d67ab461'])
    """

    name: str
    model_sha256: str = ""
    seen: frozenset[str] = frozenset()
    outlines: frozenset[str] = frozenset()
    tells: bool = True

    @property
    def patients(self) -> frozenset[str]:
        """All patients whose data a sample may show."""
        return self.seen | self.outlines

    def with_outlines(self, outlines: Iterable[str]) -> Lineage:
        """Return the lineage with `outlines` replaced by these patients; empty keys are left out."""
        return replace(self, outlines=frozenset(outlines) - {""})

    def joined(self, other: Lineage) -> Lineage:
        """Return the lineage of samples that two makers made together, under the name of the first."""
        return Lineage(
            self.name,
            self.model_sha256,
            self.seen | other.seen,
            self.outlines | other.outlines,
            self.tells and other.tells,
        )

    def row(self) -> dict[str, Any]:
        """Return the lineage as JSON can hold it; patients are joined in one text, to take one line of a manifest."""
        return {
            "name": self.name,
            "model_sha256": self.model_sha256,
            "seen": " ".join(sorted(self.seen)),
            "outlines": " ".join(sorted(self.outlines)),
            "tells": self.tells,
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Lineage:
        """Return the lineage of a row that `row()` made.

        Raises:
            ValueError: a value is not of its type.
        """
        texts = [row.get("name"), *(row.get(name, "") for name in ("model_sha256", "seen", "outlines"))]
        if not all(isinstance(text, str) for text in texts) or not isinstance(row.get("tells", True), bool):
            raise ValueError("a lineage with a value of another type")
        name, model_sha256, seen, outlines = map(str, texts)
        return cls(name, model_sha256, frozenset(seen.split()), frozenset(outlines.split()), row.get("tells", True))


def joined_lineages(lineages: Iterable[Lineage]) -> Lineage:
    """Return the lineage of samples that several makers made together.

    Its name lists the makers' names, and its hash the hashes of their weights, each once.
    """
    makers = list(dict.fromkeys(lineages))
    whole = makers[0]
    for other in makers[1:]:
        whole = whole.joined(other)
    names, hashes = (_each_once(texts) for texts in zip(*((one.name, one.model_sha256) for one in makers), strict=True))
    return replace(whole, name=names, model_sha256=hashes)


def _each_once(lists: Iterable[str]) -> str:
    """Return the parts of texts that are lists with commas, each once, as such a list."""
    return ", ".join(dict.fromkeys(part for text in lists for part in text.split(", ") if part))
