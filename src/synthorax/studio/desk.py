"""What the studio does: opening scans, editing them, comparing recipes and writing results."""

from __future__ import annotations

import secrets
import shutil
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile

from synthorax import api
from synthorax.api.edit_requests import read_scan_given
from synthorax.api.edit_session import EditSession
from synthorax.errors import InputError
from synthorax.io.images import image_stem
from synthorax.io.scans import Scan
from synthorax.studio.folders import ChosenFolder, Uploads, check_stored_inside
from synthorax.studio.methods import Methods
from synthorax.studio.opened import OpenScan, OpenScans
from synthorax.studio.requests import CompareAsking, EraseAsking, InjectAsking, NoduleRecipe, OpenAsking, ResultAsking
from synthorax.studio.work import Work, sentence

COMPARED_HALF_MM = 22.0
"""Half the width of the cubes of a sheet; the nodule's diameter if that is more."""
MOST_RESULTS = 8
"""Results that wait to be downloaded; the oldest is removed for a ninth."""


@dataclass(frozen=True)
class PackedResult:
    """A file to download.

    Attributes:
        path: of the file.
        name: under which the browser saves it.
    """

    path: Path
    name: str


class Desk:
    """The studio without its web server.

    Args:
        folder: below which the page opens scans.
        files: folder for temporary files.
        methods: that the page offers.
        first: scan to show when the page opens; a path below `folder`.
    """

    def __init__(self, folder: ChosenFolder, files: Path, methods: Methods, first: str = "") -> None:
        self.folder, self.methods, self.first = folder, methods, first
        for name in ("uploads", "results"):
            (files / name).mkdir()
        self.uploads, self._results_at = Uploads(files / "uploads"), files / "results"
        self.scans = OpenScans()
        self._results: dict[str, PackedResult] = {}
        self._lock = threading.Lock()

    def open(self, asked: OpenAsking, work: Work) -> dict[str, Any]:
        """Open a scan and find its lungs; return what the page shows of it.

        Raises:
            InputError: it cannot be read, or is not a CT in HU.
        """
        labels, upload, root = None, "", None
        if asked.kind == "phantom":
            work("making a phantom")
            phantom = api.make_phantom(asked.seed, nodules=asked.nodules)
            scan, name, labels = Scan(phantom.ct), f"phantom {asked.seed}", phantom.mask
        else:
            work("reading the scan")
            upload = asked.upload or "" if asked.kind == "upload" else ""
            root = self.uploads.of(upload) if asked.kind == "upload" else self.folder.at("")
            path = self.uploads.scan_in(upload) if asked.kind == "upload" else self.folder.at(asked.path)
            name = path.name
            check_stored_inside(path, root)
            scan = read_scan_given(path, asked.series, asked.anyway)
        labels = labels if labels is not None and labels.voxels.any() else None
        session = EditSession(scan, labels=labels, within=root)
        opened = OpenScan(session, name, upload)
        work("finding the lungs", 0.5)
        try:
            session.lungs()
        except InputError as error:
            opened.notes.append(f"{error}. Nodules can be put in only where you say so, with 'anyway'")
        for closed in self.scans.add(opened):
            self.uploads.drop(closed.upload)
        return opened.about()

    def close(self, key: str) -> None:
        """Close a scan and remove what was uploaded for it."""
        if (closed := self.scans.close(key)) is not None:
            self.uploads.drop(closed.upload)

    def inject(self, key: str, asked: InjectAsking, work: Work) -> dict[str, Any]:
        """Put nodules into an open scan.

        Raises:
            InputError: as of `api.inject`.
        """
        scan = self.scans[key]
        if (asked.at is None) == (asked.auto == 0):
            raise InputError("place", "a voxel and a number" if asked.at else "none", "a voxel, or a number of places")
        arguments = self.recipe_arguments(asked.recipe, work)
        places: dict[str, Any] = asked.places() if asked.at is None else {"at_mm": scan.world(asked.at)}
        work(f"{asked.recipe.method} is making {asked.auto or 'a'} nodule{'s' * (asked.auto > 1)}")
        with scan.lock:
            step = scan.session.inject(**arguments, **places, diameter_mm=asked.diameter_mm, force=asked.anyway)
            return scan.state() | {"changes": scan.changes(step)}

    def erase(self, key: str, asked: EraseAsking, work: Work) -> dict[str, Any]:
        """Take a nodule out of an open scan.

        Raises:
            InputError: as of `api.erase`.
        """
        scan = self.scans[key]
        if (asked.at is None) == (asked.label is None):
            raise InputError("nodule", "a place and a label" if asked.at else "none", "a place, or a nodule's label")
        options = self.methods.options_of(asked.method, asked.options, "erases")
        work(f"loading {asked.method}")
        method = self.methods.method(asked.method, "erases")
        place: dict[str, Any] = {"label": asked.label}
        if asked.at is not None:
            place = {"at_mm": scan.world(asked.at), "diameter_mm": asked.diameter_mm}
        work(f"{asked.method} is taking the nodule out")
        with scan.lock:
            step = scan.session.erase(
                method, seed=asked.seed, force=asked.anyway, device=self.methods.device, **place, **options
            )
            return scan.state() | {"changes": scan.changes(step)}

    def back(self, key: str, *, again: bool) -> dict[str, Any]:
        """Undo the last edit of an open scan, or redo the one that was undone last.

        Raises:
            InputError: there is none.
        """
        scan = self.scans[key]
        with scan.lock:
            step = scan.session.redo() if again else scan.session.undo()
            return scan.state() | {"changes": scan.changes(step)}

    def compare(self, key: str, asked: CompareAsking, work: Work) -> dict[str, Any]:
        """Make nodules at one place by several recipes, and send a cube of each; the scan stays as it is.

        Raises:
            InputError: there is no place, or each of the recipes was refused.
        """
        scan = self.scans[key]
        if asked.at is None:
            raise InputError("place", "none", "a voxel")
        center, half = scan.world(asked.at), max(COMPARED_HALF_MM, asked.diameter_mm)
        with scan.lock:
            work.part({"before": scan.cube(scan.session.ct, center, half)})
            made = 0
            for number, one in enumerate(asked.tries):
                work(f"{one.title or one.method}: {number + 1} of {len(asked.tries)}", number / len(asked.tries))
                found: dict[str, Any] = {"number": number, "title": one.title or one.method}
                try:
                    edited = scan.session.tried(
                        **self.recipe_arguments(one, work),
                        at_mm=center,
                        diameter_mm=asked.diameter_mm,
                        force=asked.anyway,
                    )
                except InputError as error:
                    work.part(found | {"error": sentence(error)})
                    continue
                made += 1
                mask = replace(edited.mask, voxels=edited.mask.voxels == edited.nodules[-1].label)
                cube = scan.cube(edited.ct, center, half)
                labels = scan.cube(mask, center, half)["hu"]
                diameter = edited.nodules[-1].attributes.diameter_mm
                work.part(found | cube | {"labels": labels, "diameter_mm": round(float(diameter or 0), 1)})
        return {"made": made}

    def write(self, key: str, asked: ResultAsking, work: Work) -> dict[str, Any]:
        """Write the result of all edits of a scan into a ZIP; return its id for `result` and its name.

        Raises:
            InputError: there is no edit.
        """
        scan = self.scans[key]
        name = secrets.token_hex(12)
        folder = self._results_at / name
        try:
            work("writing the files")
            with scan.lock:
                scan.session.write(folder / "result", layout=asked.layout)
            work("packing the files", 0.7)
            stem = image_stem(scan.name) or "scan"
            if scan.session.source.dicom is not None:
                stem = "scan"  # the folder of a series may be named by the patient
            packed = folder / "result.zip"
            with ZipFile(packed, "w", ZIP_STORED) as zipped:
                for file in sorted((folder / "result").rglob("*")):
                    if file.is_file() and file.name != ".synthorax":
                        zipped.write(file, Path(f"{stem}-synthetic") / file.relative_to(folder / "result"))
            shutil.rmtree(folder / "result")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        made = PackedResult(packed, f"{stem}-synthetic.zip")
        with self._lock:
            self._results[name] = made
            while len(self._results) > MOST_RESULTS:
                oldest = next(iter(self._results))
                shutil.rmtree(self._results.pop(oldest).path.parent, ignore_errors=True)
        return {"result": name, "name": made.name, "bytes": packed.stat().st_size}

    def result(self, name: str) -> PackedResult:
        """Return a result that was written, which `drop_result` removes.

        Raises:
            InputError: there is none of that id.
        """
        with self._lock:
            if name not in self._results:
                raise InputError("result", "one that is gone", "a result that was written and not yet downloaded")
            return self._results[name]

    def drop_result(self, name: str) -> None:
        """Remove a result."""
        with self._lock:
            found = self._results.pop(name, None)
        if found is not None:
            shutil.rmtree(found.path.parent, ignore_errors=True)

    def recipe_arguments(self, recipe: NoduleRecipe, work: Work) -> dict[str, Any]:
        """Return the arguments of `inject` that a recipe gives; loads its method.

        Raises:
            InputError: the method, a rating or an option is not one that the page offers.
        """
        attributes = recipe.attributes()
        options = self.methods.options_of(recipe.method, recipe.options, "injects")
        work(f"loading {recipe.method}")
        method = self.methods.method(recipe.method, "injects")
        arguments = {"method": method, "attributes": attributes, "seed": recipe.seed, "device": self.methods.device}
        return arguments | options
