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
    from synthorax.nodule import Nodule

EDIT = "edit"
"""Entry of `Nodule.extra`, and column: number of the edit that made the nodule, counted from 1 in the list of edits."""
UNKNOWN_MAKER = "unknown maker"
"""Name, in a lineage, of the maker of a scan that is marked as synthetic and that no manifest names."""


@dataclass(frozen=True)
class EarlierEdits:
    """The edits that a scan had when it was read.

    Attributes:
        lineage: the patients behind them; None for a scan that is not synthetic.
        edits: the manifest's entry on each, in their order.
        notes: a sentence if the patients are not known.
        scan: the scan; None for voxels that were not read from a file.
    """

    lineage: Lineage | None = None
    edits: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    scan: Scan | None = None

    def before(self, edited: Edited, seed: int) -> Edited:
        """Return the result of an edit with the lineage, the edits and the notes of the edits before it.

        Each injected nodule states the number of its edit in the list of edits, and each edit the scan that was edited.

        Args:
            edited: the result.
            seed: seed of the edit; not needed if `edited.about` lists several edits.
        """
        if edited.kind == "inject":
            earlier = {str(number + 1) for number in range(len(self.edits))}
            new = tuple(of_edit(one, int(one.extra.get(EDIT, 1)) + len(self.edits)) for one in edited.nodules)
            known = tuple(one if one.extra.get(EDIT, "") in earlier else of_edit(one, None) for one in edited.known)
            edited = replace(edited, nodules=new, known=known)
        if self.lineage is None and "edits" not in edited.about:
            return edited
        own = edited.about["edits"] if "edits" in edited.about else [edit_entry(edited, seed)]
        edits = [*self.edits, *({**one, "source": self._source()} for one in own)]
        if self.lineage is None:
            return replace(edited, about={"edits": edits})
        lineage = joined_lineages([edited.lineage, self.lineage])
        return replace(edited, lineage=lineage, about={"edits": edits}, notes=(*self.notes, *edited.notes))

    def _source(self) -> dict[str, str]:
        """Name and hash of the scan that was edited, as the manifest has them."""
        from synthorax.editing.output import about_source

        return about_source(self.scan, keep_identity=False)


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
            return EarlierEdits(scan=scan)
        lineage = Lineage(UNKNOWN_MAKER, tells=False)
    edits = () if home is None else _entries(manifests.of(home))
    return EarlierEdits(lineage, edits, () if lineage.tells else (_not_told(home),), scan)


def of_edit(nodule: Nodule, number: int | None) -> Nodule:
    """Return a nodule with the number of its edit in its row of the table; None removes the number."""
    extra = {name: text for name, text in nodule.extra.items() if name != EDIT}
    return replace(nodule, extra=extra if number is None else {**extra, EDIT: str(number)})


def edit_entry(result: Edited, seed: int) -> dict[str, Any]:
    """Return the manifest's entry on one edit of several.

    Args:
        result: the result of the edit.
        seed: seed of the edit.
    """
    lineage = result.lineage
    about = {"edit": result.kind, "method": lineage.name, "model_sha256": lineage.model_sha256, "seed": seed}
    taken = [nodule.row() for nodule in result.nodules] if result.kind == "erase" else []
    return {**about, **result.about, **({"erased": taken, "gone": list(result.gone)} if taken else {})}


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
    erased = {"erased": manifest["erased"], "gone": manifest.get("gone", [])} if kind == "erase" else {}
    source = manifest.get("source")
    told = source if isinstance(source, dict) else {}
    hashed = {name: text for name, text in told.items() if name != "series_uid"}  # kept with the identity only
    return ({"edit": kind, **known, **asked, **erased, "source": hashed},)


def _not_told(home: Path | None) -> str:
    why = "the manifest beside it does not say"
    if home is None:
        why = "no manifest beside it names it; edit it in the folder in which it was written to keep them"
    return (
        "`prepare --only-train` will leave the result out of training: the scan is synthetic, and the patients behind "
        f"its earlier edits are not known, since {why}"
    )
