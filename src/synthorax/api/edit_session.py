"""A scan under edit in memory: edit after edit, each of which can be taken back, and the files of the result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from synthorax.anatomy.lungs import Lungs
from synthorax.api.earlier_edits import earlier_edits, edit_entry, of_edit
from synthorax.api.edit_requests import LungFinderName, finder_of, read_scan_given
from synthorax.api.editing import erase, inject, write_one
from synthorax.api.known_nodules import KnownNodules, ScanWithNodules, known_nodules
from synthorax.editing.edited import Edited
from synthorax.editing.erase import gone_between, left_of
from synthorax.errors import InputError
from synthorax.geometry import AIR_HU, orient
from synthorax.io.scans import Scan
from synthorax.lineage import joined_lineages
from synthorax.nodule import Nodule
from synthorax.region import Region, regions_of
from synthorax.volume import Volume

if TYPE_CHECKING:
    from synthorax.editing.output import EditedLayout
    from synthorax.hub import Model
    from synthorax.makers import Method


@dataclass(frozen=True, eq=False)
class EditStep:
    """One edit of a session, with what is needed to undo and to redo it.

    Attributes:
        result: of the edit, with all voxels of the scan taken away, so that a hundred steps fit into memory.
        seed: of the edit.
        changed: the voxels that it may have changed, on the scan's axes.
        before, after: HU of the box [z, y, x].
        labels_before, labels_after: labels of the nodules in the whole scan, as regions.
        nodules: the session's nodules after the edit.
    """

    result: Edited
    seed: int
    changed: Region
    before: NDArray
    after: NDArray
    labels_before: tuple[Region, ...]
    labels_after: tuple[Region, ...]
    nodules: tuple[Nodule, ...]

    @property
    def gone(self) -> tuple[str, ...]:
        """Ids of the nodules that an erasure removed."""
        return self.result.gone


class EditSession:
    """A scan that is edited step by step; its lungs are found once.

    Each edit is a call of `inject` or `erase` on the scan as the edits before it left it, so that a session of one edit
    gives the very files of that call. Edits after the first are kept in the lungs of the scan as it was read.

    Args:
        scan: as in `inject`.
        labels: mask of the nodules that are in the scan; by default those of the masks in its folder, as in `inject`.
        lungs: how to find the lungs, as in `inject`.
        series: UID of a DICOM series, or the end of it, if the folder has several.
        within: folder outside which no mask of the scan is read; by default any is.
        force: accept a scan whose values do not look like HU, with a note; and the default of the edits.

    Raises:
        InputError: the scan is not a CT in HU, or the mask is on another grid.

    >>> session = EditSession("chest.nii.gz")
    >>> step = session.inject("render", at_mm=(-70.0, 2.0, 2.0), diameter_mm=12, seed=1)
    >>> session.nodules[0].attributes.diameter_mm > 9, int((session.ct.voxels != session.source.ct.voxels).sum()) > 0
    (True, True)
    >>> session.undo() is step, int((session.ct.voxels != session.source.ct.voxels).sum())
    (True, 0)
    """

    def __init__(
        self,
        scan: str | Path | Scan | Volume,
        *,
        labels: str | Path | Volume | None = None,
        lungs: LungFinderName = "density",
        series: str | None = None,
        within: Path | None = None,
        force: bool = False,
    ) -> None:
        self._finder: Callable[[Volume], Lungs] = finder_of(lungs)
        self._lungs_name = lungs
        self._lungs: Lungs | None = None
        self.source = read_scan_given(scan, series, force)
        self._earlier = earlier_edits(self.source)
        self._known = known_nodules(self.source, labels, within)
        self.notes = (*self.source.notes, *self._earlier.notes, *self._known.notes_of_injection())
        self.ct = replace(self.source.ct, voxels=self.source.ct.voxels.copy())
        self.mask = replace(self.ct, voxels=np.zeros(self.ct.shape, np.uint8))
        self.first_labels: tuple[Region, ...] = ()
        if self._known.labels is not None:
            self.mask = self._known.labels
            self.first_labels = tuple(regions_of(self.mask.voxels))
        self._force = force
        self._steps: list[EditStep] = []
        self._undone: list[EditStep] = []

    @property
    def steps(self) -> tuple[EditStep, ...]:
        """The edits that stand, in their order."""
        return tuple(self._steps)

    @property
    def labels(self) -> tuple[Region, ...]:
        """The voxels of label i of the mask at index i - 1; an empty region where there is none."""
        return self._steps[-1].labels_after if self._steps else self.first_labels

    @property
    def is_edited_again(self) -> bool:
        """Whether the scan was synthetic when it was read, so that its nodules may not be a patient's."""
        return self._earlier.lineage is not None

    @property
    def undone(self) -> int:
        """Number of edits that `redo` can bring back."""
        return len(self._undone)

    @property
    def nodules(self) -> tuple[Nodule, ...]:
        """The nodules that were put in and are still there."""
        return self._steps[-1].nodules if self._steps else ()

    def lungs(self) -> Lungs:
        """Return the lungs of the scan as it was read, which are found at the first call.

        Raises:
            InputError: there are none.
        """
        if self._lungs is None:
            seen = self.source.ct
            if seen.voxels.dtype.kind == "f":
                seen = replace(seen, voxels=np.nan_to_num(seen.voxels, nan=AIR_HU))
            self._lungs = self._finder(orient(seen, "LPS"))
        return self._lungs

    def tried(self, method: str | Path | Model | Method, **asked: Any) -> Edited:
        """Return what an injection would give, without making it; the arguments are those of `inject`.

        Raises:
            InputError: as of `inject`.
        """
        labels = self.mask if self.mask.voxels.any() else None
        force = asked.pop("force", self._force)
        lungs = self._lungs_or_name(force)
        scan = self._now(self._known.notes_of_injection())
        made = inject(scan, method, labels=labels, lungs=lungs, force=force, **asked)
        return replace(made, about={**made.about, "lungs": self._lungs_name})

    def inject(self, method: str | Path | Model | Method, *, seed: int = 0, **asked: Any) -> EditStep:
        """Put nodules into the scan; the arguments are those of `inject`, without the scan's and the files'.

        Raises:
            InputError: as of `inject`; the session stays as it was.
        """
        made = self.tried(method, seed=seed, **asked)
        made = replace(made, nodules=tuple(of_edit(one, len(self._steps) + 1) for one in made.nodules))
        return self._take(made, seed, made.regions, (*self.nodules, *made.nodules))

    def erase(
        self, method: str | Path | Model | Method, *, label: int | None = None, seed: int = 0, **asked: Any
    ) -> EditStep:
        """Take nodules out of the scan; the arguments are those of `erase`, without the scan's and the files'.

        Args:
            method: that erases.
            label: of a nodule of the mask, in place of a place and a diameter.
            seed: of the lung that replaces the nodule.
            asked: further arguments of `erase`.

        Raises:
            InputError: as of `erase`, or no voxel has that label; the session stays as it was.
        """
        if label is not None:
            own = self.mask.voxels == label
            if label < 1 or not own.any():
                known = ", ".join(str(i) for i, each in enumerate(self.labels, start=1) if each.voxels) or "none"
                raise InputError("label", str(label), f"the label of a nodule of this scan: {known}")
            asked["labels"] = replace(self.mask, voxels=np.where(own, label, 0).astype(np.uint8))
        asked.setdefault("force", self._force)
        now = KnownNodules(self.mask if self.mask.voxels.any() else None)
        made = erase(ScanWithNodules(self.ct, notes=self.source.notes, known=now), method, seed=seed, **asked)
        if label is not None:
            made = replace(made, about={**made.about, "labels": label})
        is_by_place = bool(np.size(asked.get("at_mm", ())))
        left = left_of(self.labels, made, [None if is_by_place else self.labels[n.label - 1] for n in made.nodules])
        made = made.noting(self._known.notes_of_erasure(made))
        made = replace(made, gone=gone_between(self.labels, left))
        nodules = tuple(nodule for nodule in self.nodules if left[nodule.label - 1].voxels)
        return self._take(made, seed, left, nodules)

    def undo(self) -> EditStep:
        """Take the last edit back and return it.

        Raises:
            InputError: there is none.
        """
        if not self._steps:
            raise InputError("undo", "no edit", "an edit to take back")
        step = self._steps.pop()
        self._undone.append(step)
        self.ct.voxels[step.changed.box] = step.before
        self._relabel(step.labels_after, step.labels_before)
        return step

    def redo(self) -> EditStep:
        """Make the edit that was taken back last again and return it.

        Raises:
            InputError: there is none.
        """
        if not self._undone:
            raise InputError("redo", "no edit that was taken back", "an undo before it")
        step = self._undone.pop()
        self._steps.append(step)
        self.ct.voxels[step.changed.box] = step.after
        self._relabel(step.labels_before, step.labels_after)
        return step

    def edited(self) -> Edited:
        """Return the result of all edits; that of a single edit is the result of its call.

        Raises:
            InputError: there is no edit.
        """
        if not self._steps:
            raise InputError("edits", "none", "an edit to write down")
        region = np.zeros(self.ct.shape, bool)
        for step in self._steps:
            step.changed.paint(region, True)
        last = self._steps[-1]
        whole = replace(
            last.result,
            ct=replace(self.ct, voxels=self.ct.voxels.copy()),
            mask=self.mask,
            region=replace(self.ct, voxels=region),
            regions=last.labels_after,
        )
        if len(self._steps) == 1:
            return self._earlier.before(self._known.before(whole), last.seed)
        results = [step.result for step in self._steps]
        several = replace(
            whole,
            nodules=self.nodules,
            kind="inject" if any(own.voxels for own in last.labels_after) else "erase",
            lineage=joined_lineages(result.lineage for result in results),
            notes=tuple(dict.fromkeys(note for result in results for note in result.notes)),
            about={"edits": [edit_entry(step.result, step.seed) for step in self._steps]},
        )
        return self._earlier.before(self._known.before(several), last.seed)

    def write(self, out: str | Path, *, layout: EditedLayout = "as read", overwrite: bool = False) -> Edited:
        """Write the result of all edits as `inject` and `erase` write theirs, and return it.

        Args:
            out: folder to write.
            layout: of the files: as the scan came, images, or a DICOM series with segmentations.
            overwrite: replace a folder that an earlier call wrote.

        Raises:
            InputError: there is no edit, or the folder may not be replaced.
            OutputError: the folder cannot be written.
        """
        made = self.edited()
        seed = self._steps[0].seed
        return write_one(Path(out), made, seed, self.source, overwrite=overwrite, layout=layout)

    def _now(self, notes: tuple[str, ...] = ()) -> Scan:
        """The scan as it is now, without its file: `edited` adds the edits and the nodules that the file had."""
        return Scan(self.ct, notes=(*self.source.notes, *notes))

    def _lungs_or_name(self, force: bool) -> Lungs | LungFinderName:
        """The lungs; where there are none and that is allowed, the finder's name, so that its error becomes a note."""
        try:
            return self.lungs()
        except InputError as error:
            if force:
                return self._lungs_name
            if self.source.path is not None and error.args[0] == "scan":
                raise InputError(self.source.path.name, *error.args[1:]) from error
            raise

    def _take(
        self,
        made: Edited,
        seed: int,
        labels: tuple[Region, ...],
        nodules: tuple[Nodule, ...],
    ) -> EditStep:
        """Make an edit the session's last one."""
        changed = Region.of(made.region.voxels)
        box, nothing = changed.box, np.zeros((0, 0, 0))
        blank = replace(made.ct, voxels=nothing)
        step = EditStep(
            result=replace(made, ct=blank, mask=blank, region=blank),
            seed=seed,
            changed=changed,
            before=self.ct.voxels[box].copy(),
            after=made.ct.voxels[box].copy(),
            labels_before=self.labels,
            labels_after=labels,
            nodules=nodules,
        )
        self._steps.append(step)
        self._undone.clear()
        self.ct.voxels[box] = step.after
        self._relabel(step.labels_before, labels)
        return step

    def _relabel(self, old: Sequence[Region], new: Sequence[Region]) -> None:
        """Change the mask's labels from some regions to others; where they overlap, the smaller one lies on top."""
        for region in old:
            region.paint(self.mask.voxels, 0)
        for i in sorted(range(len(new)), key=lambda i: -new[i].voxels):
            new[i].paint(self.mask.voxels, i + 1)
