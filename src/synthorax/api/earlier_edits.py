"""The edits that a scan already has: the patients behind them, and what each was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthorax.lineage import Lineage, joined_lineages

if TYPE_CHECKING:
    from synthorax.editing.edited import Edited
    from synthorax.io.scans import Scan

UNKNOWN_MAKER = "unknown maker"
"""Name, in a lineage, of the maker of a scan that is marked as synthetic and that no manifest names."""


@dataclass(frozen=True)
class EarlierEdits:
    """The edits that a scan had when it was read.

    Attributes:
        lineage: the patients behind them; None for a scan that is not synthetic.
        edits: the manifest's entry on each, in their order.
        notes: a sentence if the patients are not known.
    """

    lineage: Lineage | None = None
    edits: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()

    def before(self, edited: Edited, seed: int) -> Edited:
        """Return the result of an edit with the lineage, the edits and the notes of the edits before it.

        Args:
            edited: the result.
            seed: seed of the edit; not needed if `edited.about` lists several edits.
        """
        if self.lineage is None:
            return edited
        own = edited.about["edits"] if "edits" in edited.about else [edit_entry(edited, seed)]
        return replace(
            edited,
            lineage=joined_lineages([edited.lineage, self.lineage]),
            about={"edits": [*self.edits, *own]},
            notes=(*self.notes, *edited.notes),
        )


def earlier_edits(scan: Scan) -> EarlierEdits:
    """Return the edits of a scan by the manifest that names it; none for voxels that were not read from a file.

    A scan that is marked as synthetic and that no manifest names gets a lineage that does not tell its patients, so
    that it is never taken for one without any.
    """
    from synthorax.datasets.manifests import Manifests
    from synthorax.io.images import read_mark

    path = scan.path if scan.dicom is None else scan.dicom.folder
    if scan.path is None or path is None:
        return EarlierEdits()
    place = path.absolute()
    manifests = Manifests()
    lineage, home = manifests.lineage_of(place), manifests.home(place)
    if lineage is None:
        if not (read_mark(path) if scan.dicom is None else scan.dicom.mark):
            return EarlierEdits()
        lineage = Lineage(UNKNOWN_MAKER, tells=False)
    edits = () if home is None else _entries(manifests.of(home))
    return EarlierEdits(lineage, edits, () if lineage.tells else (_not_told(home),))


def edit_entry(result: Edited, seed: int, gone: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the manifest's entry on one edit of several.

    Args:
        result: the result of the edit.
        seed: seed of the edit.
        gone: ids of the nodules that an erasure removed.
    """
    lineage = result.lineage
    about = {"edit": result.kind, "method": lineage.name, "model_sha256": lineage.model_sha256, "seed": seed}
    taken = [nodule.row() for nodule in result.nodules] if result.kind == "erase" else []
    return {**about, **result.about, **({"erased": taken, "gone": list(gone)} if taken else {})}


def _entries(manifest: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Return the entries on the edits of a manifest, which has a list of them if the scan was edited several times."""
    request = manifest.get("request")
    asked = dict(request) if isinstance(request, dict) else {}
    if isinstance(edits := asked.get("edits"), list):
        return tuple(each for each in edits if isinstance(each, dict))
    is_edit = isinstance(files := manifest.get("files"), dict) and "region" in files
    kind = ("erase" if "erased" in manifest else "inject") if is_edit else "made"
    known = {name: manifest.get(name) for name in ("method", "model_sha256", "seed")}
    known["method"] = known["method"] or manifest.get("system")
    erased = {"erased": manifest["erased"], "gone": []} if kind == "erase" else {}
    return ({"edit": kind, **known, **asked, **erased},)


def _not_told(home: Path | None) -> str:
    why = "the manifest beside it does not say"
    if home is None:
        why = "no manifest beside it names it; edit it in the folder in which it was written to keep them"
    return (
        "`prepare --only-train` will leave the result out of training: the scan is synthetic, and the patients behind "
        f"its earlier edits are not known, since {why}"
    )
