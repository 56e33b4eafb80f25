"""The nodules that a scan already has: the masks and tables in its folder, and the mask that the caller gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import dist
from pathlib import Path
from typing import TYPE_CHECKING

from synthorax.api.edit_requests import labels_given
from synthorax.errors import InputError
from synthorax.io.scans import Scan
from synthorax.nodule import place_text

if TYPE_CHECKING:
    from synthorax.anatomy.placement import Ball
    from synthorax.datasets.case import Case
    from synthorax.datasets.sources import ScanSource, TableSource
    from synthorax.editing.edited import Edited
    from synthorax.editing.erase import Unwanted
    from synthorax.nodule import Nodule
    from synthorax.volume import Volume


@dataclass(frozen=True)
class KnownNodules:
    """The nodules that a scan has before an edit.

    Attributes:
        labels: uint8 label map on the scan's grid of the nodules that have a mask; None if there are none.
        nodules: what is known of these nodules, with their labels.
        without: the nodules without a mask.
        notes: what was left out or repaired.
    """

    labels: Volume | None = None
    nodules: tuple[Nodule, ...] = ()
    without: tuple[Nodule, ...] = ()
    notes: tuple[str, ...] = ()

    def labels_with(self, more: Volume | None) -> Volume | None:
        """Return a label map of these nodules and of those of another label map that are none of them.

        Args:
            more: uint8 label map on the same grid; None for none.

        Raises:
            InputError: there are more nodules than uint8 has labels.
        """
        if more is None or self.labels is None:
            return more if self.labels is None else self.labels
        from synthorax.annotations.masked import SAME_NODULE
        from synthorax.region import paint_labels, regions_of

        own = regions_of(self.labels.voxels)
        new = [
            one
            for one in regions_of(more.voxels)
            if one.voxels and all(one.likeness(each) <= SAME_NODULE for each in own)
        ]
        _check_count(len(own) + len(new))
        return replace(self.labels, voxels=paint_labels([*own, *new], more.shape))

    def before(self, edited: Edited) -> Edited:
        """Return the result of an edit with the facts about the nodules that the scan had before."""
        return replace(edited, known=self.nodules) if self.nodules else edited

    def notes_of_injection(self) -> tuple[str, ...]:
        """Return the notes, and one on the nodules without a mask, which an injection cannot keep."""
        if not self.without:
            return self.notes
        places = "; ".join(place_text(nodule.center_mm) for nodule in self.without)
        which, them = ("nodules", "them") if len(self.without) > 1 else ("a nodule", "it")
        known = f"{which} of the scan without a mask, at {places} mm"
        return (*self.notes, f"{known}: new nodules may overlap {them}, and mask and table of the result lack {them}")

    def unwanted_without(self) -> list[Unwanted]:
        """Return the nodules without a mask, to erase them; the label of each is its id, if that is a number.

        Raises:
            InputError: a nodule has no diameter.
        """
        from synthorax.editing.erase import Unwanted

        labels = [int(one.nodule_id) if one.nodule_id.isdecimal() else 0 for one in self.without]
        return [Unwanted(ball_of(one), label=label) for one, label in zip(self.without, labels, strict=True)]

    def notes_of_erasure(self, edited: Edited, planned: Sequence[Ball] = ()) -> tuple[str, ...]:
        """Return a note on the nodules that stay in the scan and of which the result of an erasure has no mask, if any.

        A nodule without a mask is erased if its centre lies in an erased ball whose nodule is gone.

        Args:
            edited: the result.
            planned: further nodules of which only the places are known.
        """
        import numpy as np

        from synthorax.editing.erase import is_gone

        erased = [ball_of(nodule) for nodule in edited.nodules if is_gone(nodule)]

        def stays(at: Sequence[float]) -> bool:
            return all(2 * dist(at, ball.center_mm) > ball.diameter_mm for ball in erased) and not marked(at)

        def marked(at: Sequence[float]) -> bool:
            index = np.rint(edited.mask.to_voxel(at)).astype(int)
            inside = (index >= 0).all() and (index < edited.mask.shape).all()
            return bool(inside and edited.mask.voxels[tuple(index)])

        centers = [*(nodule.center_mm for nodule in self.without), *(ball.center_mm for ball in planned)]
        left = [at for at in centers if stays(at)]
        if not left:
            return ()
        where = "; ".join(map(place_text, left))
        which, verb, them = (f"{len(left)} nodules", "stay", "them") if len(left) > 1 else ("a nodule", "stays", "it")
        return (f"{which} at {where} mm {verb} in the scan, and the result has no mask of {them}",)


@dataclass(frozen=True, eq=False)
class ScanWithNodules(Scan):
    """A scan in memory of which the nodules are known.

    Attributes:
        known: the nodules.
    """

    known: KnownNodules = field(default_factory=KnownNodules)


def known_nodules(scan: Scan, labels: str | Path | Volume | None, within: Path | None = None) -> KnownNodules:
    """Return the nodules of a scan: those of a mask that is given, or else those of the masks and tables found for it.

    Facts about the nodules of the mask that is given, such as their ratings, come from the folder all the same.

    Args:
        scan: the scan as it was read.
        labels: mask of the nodules; None to look for masks and tables in the scan's folder, and for tables above it.
        within: folder outside which no mask and no table is read; None for no such limit.

    Raises:
        InputError: the mask is on another grid, or has fractions or labels above 255; or the folder has masks of more
            nodules than uint8 has labels.
    """
    from synthorax.datasets.sources import TableSource

    source, notes = _source_of(scan, within)
    beside = scan.known if isinstance(scan, ScanWithNodules) else KnownNodules()
    beside = beside if source is None else nodules_of_source(source, scan, within)
    if labels is None:
        is_listed = isinstance(source, TableSource)
        by_name = () if is_listed or scan.path is None or scan.dicom is not None else _masks_by_name(scan.path)
        return replace(beside, notes=(*notes, *by_name, *beside.notes))
    given, given_notes = labels_given(labels, scan.ct)
    return KnownNodules(given, _matched(given, beside), (), (*notes, *given_notes))


def nodules_of_source(source: ScanSource | TableSource, scan: Scan, within: Path | None = None) -> KnownNodules:
    """Return the nodules of a scan's table and DICOM masks, or of LIDC-IDRI's XML file beside it, on the scan's grid.

    Args:
        source: where the annotations are.
        scan: the scan as it was read.
        within: see `known_nodules`.

    Raises:
        InputError: there are more nodules than uint8 has labels.
    """
    from synthorax.datasets.sources import TableSource, upright

    is_listed = isinstance(source, TableSource)
    if not (is_listed or source.files.masks):
        return _of_readers(source, scan, within)
    if within is not None and (outside := _outside(source, within)) is not None:
        return KnownNodules(notes=(f"{outside.name} was ignored: it lies outside the chosen folder",))
    return _of_case(source.read_on(upright(scan)), scan, keeps_facts=is_listed)


def _of_readers(source: ScanSource | TableSource, scan: Scan, within: Path | None) -> KnownNodules:
    """Return the nodules that LIDC-IDRI's readers marked in a scan, by the XML file beside it, if there is one.

    Args:
        source: where the scan is.
        scan: the scan as it was read.
        within: see `known_nodules`.
    """
    from synthorax.datasets.reader_lists import lidc_xml_beside
    from synthorax.datasets.reader_sources import LidcSource
    from synthorax.datasets.sources import upright

    xml = lidc_xml_beside(source.files)
    if xml is None or (within is not None and within.resolve() not in xml.resolve().parents):
        return KnownNodules(notes=source.files.doubts)
    try:
        case = LidcSource(source.case_id, source.files, source.whose, xml).read_on(upright(scan))
    except InputError as error:
        reason = InputError(*map(without_folder, error.args))
        return KnownNodules(notes=(*source.files.doubts, f"{xml.name} was ignored: {reason}"))
    return _of_case(case, scan, keeps_facts=True)


def _of_case(case: Case, scan: Scan, *, keeps_facts: bool) -> KnownNodules:
    """Return the nodules of a case that was read from a scan, on the scan's grid.

    Args:
        case: the case.
        scan: the scan as it was read.
        keeps_facts: whether attributes of the nodules are known, beyond their masks.
    """
    import numpy as np

    from synthorax.geometry import turned_like

    notes = tuple(note for note in case.notes if note not in scan.notes)
    without = tuple(nodule for nodule in case.nodules if case.region(nodule) is None)
    if len(without) == len(case.nodules):
        return KnownNodules(None, (), without, notes)
    _check_count(len(case.regions))
    labels = turned_like(replace(case.ct, voxels=case.label_map().astype(np.uint8)), scan.ct)
    nodules = tuple(nodule for nodule in case.nodules if case.region(nodule) is not None)
    return KnownNodules(labels, nodules if keeps_facts else (), without, notes)


def _check_count(nodules: int) -> None:
    import numpy as np

    if nodules > (most := np.iinfo(np.uint8).max):
        raise InputError("nodules", f"{nodules} in a scan", f"at most {most}")


def ball_of(nodule: Nodule) -> Ball:
    """Return the ball that stands for a nodule without a mask.

    Raises:
        InputError: the nodule has no diameter.
    """
    from synthorax.anatomy.placement import Ball
    from synthorax.editing.plan import check_diameters

    diameter = nodule.attributes.diameter_mm
    if diameter is None:
        raise InputError(f"nodule {nodule.nodule_id}", "neither a mask nor a diameter", "one of them, to remove it")
    check_diameters([diameter])
    return Ball(nodule.center_mm, diameter)


def without_folder(part: object) -> str:
    """Return a part of an error without folders, so that a result reveals no paths of this machine."""
    from synthorax.provenance import without_folders

    return Path(part).name if isinstance(part, Path) else without_folders(str(part))


def _source_of(scan: Scan, within: Path | None) -> tuple[ScanSource | TableSource | None, tuple[str, ...]]:
    """Return where the annotations of a single scan are, and notes on files that were ignored.

    For a DICOM series they are the masks and tables of its folder; for an image, the table of its folder, which may be
    that of many other images too. For both they may be in a table of a folder above that names the scan.

    Args:
        scan: the scan.
        within: see `known_nodules`.
    """
    from synthorax.annotations.nodule_table import NODULE_TABLE
    from synthorax.datasets.reader_lists import lidc_xml_beside
    from synthorax.datasets.source_lists import scan_sources, tables_above
    from synthorax.datasets.sources import Files, ScanSource, TableSource

    if scan.path is None:
        return None, ()
    path, table = scan.path.absolute(), None
    above = [one for one in tables_above(path) if within is None or within.resolve() in one.resolve().parents]
    if scan.dicom is None:
        table = path.parent / NODULE_TABLE
        if not table.is_file() and not above and lidc_xml_beside(Files(path)) is None:
            return None, ()
        table = table if table.is_file() else None
    elif not (path / NODULE_TABLE).is_file() and path.parent / NODULE_TABLE in above:
        table = above.pop(0)  # it may name the series by its patient too
    try:
        found = scan_sources(path, table, above=above)
    except InputError as error:
        reason = InputError(*map(without_folder, error.args))
        return None, (f"the tables and masks in the scan's folder were ignored: {reason}; --nodules MASK gives a mask",)
    for source in found.sources:
        if isinstance(source, ScanSource | TableSource) and source.files.series_uid == scan.series_uid:
            return source, ()
    return None, ()


def _masks_by_name(image: Path) -> tuple[str, ...]:
    """Return a note on images beside a scan that may be its masks by their names, which no table names."""
    from synthorax.datasets.discovery import masks_by_name
    from synthorax.io.images import is_image

    try:
        beside = [Path(file.name) for file in sorted(image.absolute().parent.iterdir()) if is_image(file)]
    except OSError:
        return ()
    own = Path(image.name)  # names alone, since the folder is the same
    names = [mask.name for mask in masks_by_name([own, *(file for file in beside if file != own)]).get(own, [])]
    if not names:
        return ()
    return (f"{', '.join(names)} may have masks of the scan's nodules, and was ignored; --nodules {names[0]} uses it",)


def _outside(source: ScanSource | TableSource, folder: Path) -> Path | None:
    """Return a mask of a source, or a file that the mask's header names, that lies outside a folder."""
    from synthorax.datasets.sources import TableSource
    from synthorax.io.images import is_image, stored_files

    rows = source.rows if isinstance(source, TableSource) else ()
    masks = [*source.files.masks, *(row.mask for row in rows if row.mask is not None)]
    root = folder.resolve()
    for mask in masks:
        for file in (mask, *(stored_files(mask) if mask.is_file() and is_image(mask) else ())):
            if root not in file.resolve().parents:
                return mask
    return None


def _matched(labels: Volume, beside: KnownNodules) -> tuple[Nodule, ...]:
    """Return the nodules known beside a scan that a label map shows, with the labels of that map.

    A nodule with a mask is the one that shares more than half of the smaller mask's voxels; a nodule without a mask is
    the one at whose voxels its centre lies.
    """
    from synthorax.annotations.masked import SAME_NODULE
    from synthorax.datasets.mask_files import distance_mm
    from synthorax.datasets.sources import TABLE_TO_MASK_MM
    from synthorax.region import regions_of

    own = regions_of(labels.voxels)
    theirs = [] if beside.labels is None else regions_of(beside.labels.voxels)
    left, found = [*beside.nodules, *beside.without], []
    for label, region in enumerate(own, start=1):
        if not region.voxels:
            continue
        fits: list[tuple[float, int]] = []
        for i, nodule in enumerate(left):
            if not nodule.label:
                if distance_mm(region, nodule.center_mm, labels) <= TABLE_TO_MASK_MM:
                    fits.append((SAME_NODULE, i))
                continue
            other = theirs[nodule.label - 1] if nodule.label <= len(theirs) else None
            if other is not None and other.voxels:
                share = region.likeness(other)
                fits += [(share, i)] * (share > SAME_NODULE)
        if fits:
            nodule = left.pop(max(fits)[1])
            found.append(replace(nodule, label=label))
    return tuple(found)
