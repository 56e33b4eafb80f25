"""Reading nodules from mask files: DICOM masks beside a series, and the masks that a table names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthorax.annotations.masked import Masked, MaskedNodule, joined_when_near, pieces, same_nodules
from synthorax.annotations.nodule_table import NoduleRow
from synthorax.errors import InputError
from synthorax.io.dicom_masks import chosen_structures, list_structures, read_structures
from synthorax.io.images import is_image
from synthorax.io.masks import Labels, read_labels_on, read_nodule_on
from synthorax.io.scans import Scan
from synthorax.io.structure_names import may_be_nodule, wanted_structures
from synthorax.region import Region, agreement
from synthorax.shapes.diameter import axial_diameter_mm
from synthorax.volume import Volume

NOT_TAKEN = "structure not taken for a nodule: "
"""Beginning of the notes on structures whose names are not those of nodules."""
MOST_STRUCTURES_NOTED = 100
"""Most structures not taken for nodules that the notes of a scan name."""
FAR_MM = 5.0
"""A centre further than this, in mm, from the nodule's voxels contradicts them."""


@dataclass(frozen=True)
class NodulesOfMasks:
    """The nodules of a series' mask files.

    Attributes:
        nodules: the nodules.
        notes: sentences about structures that were left out.
        is_whole: whether every structure that is a nodule was read completely.
    """

    nodules: tuple[MaskedNodule, ...] = ()
    notes: tuple[str, ...] = ()
    is_whole: bool = True


def masked_nodules(masks: Sequence[Path], scan: Scan, expression: str | None) -> NodulesOfMasks:
    """Read the nodules of SEG and RTSTRUCT files on the voxels of a scan.

    The notes name structures that are not nodules, and structures that cannot be used; the others are read all the
    same. Notes name a file by its number, because names of DICOM files may identify a patient.

    Args:
        masks: the mask files.
        scan: the scan, in upright orientation.
        expression: regular expression for the names of nodules; None for the rule `is_nodule`.
    """
    wanted = wanted_structures(expression)
    frame_uid = str(scan.dicom.header.get("FrameOfReferenceUID", "") or "") if scan.dicom else ""
    found: list[Masked] = []
    notes: list[str] = []
    others: dict[str, None] = {}
    is_whole = True
    for number, path in enumerate(masks, start=1):
        try:
            named = list_structures(path)
            others |= {str(s): None for s in named if not wanted(s)}
            if expression is None and not any(map(wanted, named)) and any(map(may_be_nodule, named)):
                notes.append(
                    f"mask {number} of {len(masks)} has no structure named as a nodule; choose some by --structures"
                )
                is_whole = False
            structures = read_structures(path, scan.ct, wanted, frame_uid=frame_uid)
        except InputError as error:
            notes.append(f"mask {number} of {len(masks)} left out: {error.args[1]}; expected {error.args[2]}")
            is_whole = False
            continue
        for structure in structures:
            name = str(structure.named)
            is_whole = is_whole and structure.is_whole
            notes += [f"{name}: {note}" for note in structure.notes]
            if structure.region is None:
                notes.append(f"{name} left out: {structure.reason}")
                continue
            parts, note = pieces(name, len(found), structure.region)
            is_whole = is_whole and bool(parts)
            notes += [note] * bool(note)
            found += parts
    nodules, same_notes = same_nodules(found)
    notes += same_notes + [NOT_TAKEN + name for name in list(others)[:MOST_STRUCTURES_NOTED]]
    notes += [f"{len(others) - MOST_STRUCTURES_NOTED} more structures are not taken for nodules"] * (
        len(others) > MOST_STRUCTURES_NOTED
    )
    return NodulesOfMasks(tuple(nodules), tuple(notes), is_whole)


class LabelsOnce:
    """`read_labels_on` for the masks of one scan; a file that several rows name is read once."""

    def __init__(self) -> None:
        self._read: dict[Path, Labels] = {}

    def __call__(self, path: Path, ct: Volume) -> Labels:
        """Return the labels of a mask on the voxels of the scan."""
        if path not in self._read:
            self._read = {path: read_labels_on(path, ct)}  # keep one only, since it is as large as the scan
        return self._read[path]


@dataclass(frozen=True)
class RowRegions:
    """The voxels of the nodules of a table's row.

    Attributes:
        regions: region of each nodule; empty if the row names no mask. Several nodules are the separate pieces of a
            mask for which the row says neither which piece, nor that all pieces are one nodule.
        left: pieces of the mask that are not the row's nodule; other rows may name them.
        notes: sentences about the choice of pieces, and about repairs of the mask.
    """

    regions: tuple[Region, ...] = ()
    left: tuple[Region, ...] = ()
    notes: tuple[str, ...] = ()


def regions_of_row(
    row: NoduleRow, scan: Scan, *, shares: bool = False, read: Callable[[Path, Volume], Labels] = read_labels_on
) -> RowRegions:
    """Read the mask that a row of a table names.

    A mask with a `mask_label` is one nodule. The separate pieces of any other mask are nodules, whatever their labels
    or structures; a row with a centre means the piece at the centre, and one with a diameter alone the piece whose
    diameter is nearest.

    Args:
        row: the row.
        scan: the scan, in upright orientation.
        shares: whether another row names the same mask; the piece at the row's centre is then its nodule.
        read: function that reads masks that are images.

    Raises:
        InputError: the row has neither mask nor centre; or the file is missing, has no voxel of the nodule, or has no
            piece at the row's centre.
    """
    if row.mask is None and row.center_mm is None:
        expected = "one of them, or for an image without a nodule a row without any value"
        raise InputError("row", "neither mask nor centre", expected)
    if row.mask is None:
        return RowRegions()
    if not row.mask.is_file():
        raise InputError(row.mask, f"no file {row.mask.name}", "the mask that the table names")
    if is_image(row.mask):
        found = read_nodule_on(row.mask, scan.ct, row.mask_label, read=read)
        region, notes = Region.of(found.voxels), list(found.notes)
    else:
        region, notes = _of_dicom(row.mask, row.mask_label, scan)
    if row.mask_label is None or (shares and row.center_mm is not None):
        return _pieces_of_row(row, region, notes, scan.ct, shares)
    return RowRegions((region,), (), (*notes, *_far(row, region, scan.ct)))


def _pieces_of_row(row: NoduleRow, region: Region, notes: Sequence[str], ct: Volume, shares: bool) -> RowRegions:
    """Return the pieces of a mask that are a row's nodules."""
    parts, reason = pieces("its mask", 0, region)
    if not parts:
        raise InputError(row.mask, reason, "a mask of nodules; mask_label would take its pieces as one nodule")
    every = [part.region for part in parts]
    every = every if shares else joined_when_near(every, region, ct.spacing_mm)
    if len(every) == 1 and not shares:  # as it is, stray voxels included
        return RowRegions((region,), (), (*notes, *_far(row, region, ct)))
    stray = region.voxels - sum(piece.voxels for piece in every)
    more = [*notes, *[f"{stray} voxels in stray pieces of one or two voxels were left out"] * bool(stray)]
    if row.center_mm is not None:
        gaps = [distance_mm(piece, row.center_mm, ct) for piece in every]
        if min(gaps) > FAR_MM:
            what = "a mask that several rows name" if shares else f"a mask of {len(every)} separate pieces"
            expected = f"such a piece, or a mask_label{_hint(ct, row)}"
            raise InputError(row.mask, f"{what}, without a piece at the centre of this row", expected)
        best = int(np.argmin(gaps))
        why = "several rows name its mask" if shares else f"its mask has {len(every)} separate pieces"
        chosen = f"{why}; the piece at its centre is taken"
    elif (wanted := row.attributes.diameter_mm) is not None:
        widths = [axial_diameter_mm(piece.indices(), ct.spacing_mm) for piece in every]
        best = int(np.argmin([abs(width - wanted) for width in widths]))
        chosen = f"its mask has {len(every)} separate pieces; the one of {widths[best]:.1f} mm is taken"
    else:
        return RowRegions(tuple(every), (), tuple(more))
    return RowRegions((every[best],), (*every[:best], *every[best + 1 :]), (*more, chosen))


def _far(row: NoduleRow, region: Region, ct: Volume) -> list[str]:
    """Return a note on a centre that is far from its mask, or an empty list."""
    if row.center_mm is None or (gap := distance_mm(region, row.center_mm, ct)) <= FAR_MM:
        return []
    return [f"its centre lies {gap:.0f} mm from its mask; the mask is used{_hint(ct, row)}"]


def _of_dicom(path: Path, label: int | str | None, scan: Scan) -> tuple[Region, list[str]]:
    """Read a segment or structure of a DICOM mask by number or name, or all structures that are nodules as one.

    Returns:
        The voxels, and notes.
    """
    if label:
        chosen = read_structures(path, scan.ct, lambda s: label in (s.number, s.name))
        if not chosen:
            known = ", ".join(f"{s.number} ({s})" for s in list_structures(path)[:20])
            raise InputError(path, f"no structure {label} in {path.name}", f"a number or name of {known}")
    else:
        chosen = chosen_structures(path, scan.ct)
    regions = [structure.region for structure in chosen if structure.region is not None]
    if not regions:
        raise InputError(path, f"{chosen[0].named}: {chosen[0].reason}", "a structure with voxels in the scan")
    notes = [note for structure in chosen for note in structure.notes]
    if len(regions) > 1:
        notes.append(f"its mask has {len(regions)} structures, which are taken together; mask_label would choose one")
    corner, counts = agreement(regions)
    return Region(corner, counts > 0), notes


def distance_mm(region: Region, point_mm: tuple[float, float, float], ct: Volume) -> float:
    """Return the distance in mm from a point (x, y, z) to the nearest voxel of a region."""
    places: NDArray[np.float64] = ct.to_world(region.indices())
    return float(np.linalg.norm(places - point_mm, axis=1).min())


def check_fits(ct: Volume, diameter_mm: float | None) -> None:
    """Check that a nodule is not larger than its scan.

    Raises:
        InputError: the diameter exceeds the scan's diagonal, which the width of a mask can reach.
    """
    longest_mm = float(np.linalg.norm(np.multiply(ct.shape, ct.spacing_mm)))
    if diameter_mm is not None and diameter_mm > longest_mm:
        expected = f"at most {longest_mm:.4g} mm, the diagonal of the image"
        raise InputError("nodule", f"a diameter of {diameter_mm:g} mm", expected)


def check_inside(ct: Volume, center_mm: tuple[float, float, float]) -> None:
    """Check that a centre lies in a scan.

    Raises:
        InputError: it does not; the error says if it would lie in the scan in RAS or as a voxel index.
    """
    if ct.holds(ct.to_voxel(center_mm)):
        return
    place = ", ".join(f"{v:g}" for v in center_mm)
    voxel = np.rint(ct.to_voxel(center_mm)).astype(int).tolist()
    x, y, z = center_mm
    hint = ""
    if ct.holds(ct.to_voxel((-x, -y, z))):
        hint = "; with the signs of x and y reversed it lies inside: is it RAS, as in NIfTI?"
    elif ct.holds((z, y, x)):
        hint = "; taken as voxel indices it lies inside: is it x, y, z in voxels?"
    raise InputError("centre", f"a centre at {place} mm, voxel {voxel} (z, y, x)", f"a centre inside the scan{hint}")


def _hint(ct: Volume, row: NoduleRow) -> str:
    """Return a hint, for a centre far from its mask, if it would lie in the scan in RAS; else an empty text."""
    assert row.center_mm is not None
    x, y, z = row.center_mm
    seems_ras = ct.holds(ct.to_voxel((-x, -y, z))) and not ct.holds(ct.to_voxel((x, y, z)))
    return "; it seems to be RAS, not LPS" if seems_ras else ""
