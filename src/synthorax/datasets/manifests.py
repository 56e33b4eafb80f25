"""Reading the manifests that `inject` and `sample` write: the scans, their nodules, and the patients behind them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from synthorax.annotations.nodule_table import NODULE_TABLE, TableImage, read_nodule_table
from synthorax.datasets.case import ANNOTATED, Annotated
from synthorax.errors import InputError
from synthorax.io.atomic import MARK
from synthorax.io.images import image_stem
from synthorax.io.mappings import read_mapping
from synthorax.lineage import Lineage
from synthorax.provenance import MANIFEST

MASKS = "masks"
"""Subfolder of the masks in a folder of samples."""


class Manifests:
    """The manifests of synthetic scans; each is read once.

    `inject` writes its manifest beside the scan. `sample` writes one manifest into the folder that contains the
    subfolder of its images.
    """

    def __init__(self) -> None:
        self._read: dict[Path, Mapping[str, Any]] = {}
        self._damaged: set[Path] = set()
        self._samples = cache(self._listed)
        self._lineage_in = cache(self._lineage_of_home)

    def of(self, folder: Path) -> Mapping[str, Any]:
        """Return the content of the manifest in a folder; empty if this package wrote none there."""
        if folder not in self._read:
            path, content = folder / MANIFEST, {}
            try:
                if path.is_file():
                    content = read_mapping(path, "manifest")
            except (OSError, InputError):
                if (folder / MARK).is_file():
                    self._damaged.add(folder)
            self._read[folder] = content if content.get("synthorax") else {}
        return self._read[folder]

    def home(self, scan: Path) -> Path | None:
        """Return the folder whose manifest names a scan (an image or the folder of a series); None if none does."""
        files = self.of(scan.parent).get("files")
        if isinstance(files, dict) and scan.name in files.values():
            return scan.parent
        above = scan.parent.parent
        return above if scan in self._samples(above) else None

    def mark_of(self, scan: Path) -> str:
        """Return the mark of generated voxels in the manifest of a scan, for a file that has lost its own mark."""
        home = self.home(scan)
        return str(self.of(home).get("synthetic", "")) if home else ""

    def lineage_of(self, scan: Path) -> Lineage | None:
        """Return the lineage of a scan; None if no manifest names the scan.

        A manifest without a lineage, as older versions wrote it, does not tell the training patients of a model. A
        damaged manifest tells nothing.
        """
        home = self.home(scan)
        if home is None:
            return Lineage("", tells=False) if {scan.parent, scan.parent.parent} & self._damaged else None
        return self._lineage_in(home)

    def _lineage_of_home(self, home: Path) -> Lineage:
        about = self.of(home)
        name = str(about.get("system") or about.get("method") or "")
        digest = str(about.get("model_sha256") or "")
        try:
            return Lineage.from_row(about["lineage"]) if "lineage" in about else Lineage(name, digest, tells=not digest)
        except (ValueError, AttributeError):
            return Lineage(name, tells=False)

    def other_images(self, scans: Iterable[Path]) -> set[Path]:
        """Return the images beside synthetic scans that are not scans: masks, edit regions, label maps, copies."""
        found: set[Path] = set()
        for scan in scans:
            files = self.of(scan.parent).get("files")
            if isinstance(files, dict):
                found |= {scan.parent / str(files[name]) for name in ("mask", "region", "labels") if name in files}
            home = scan.parent.parent
            sample = self._samples(home).get(scan)
            is_mask = scan.parent.name == MASKS and isinstance(self.of(home).get("samples"), list)
            if is_mask or (sample is not None and scan != sample.scan):
                found.add(scan)
        return found

    def samples(self, folder: Path) -> list[Sample]:
        """Return the CT samples that the manifest of a folder lists."""
        return list(dict.fromkeys(self._samples(folder).values()))

    def images_of(self, table: Path) -> list[TableImage]:
        """Return the images of a table of nodules, and the samples beside it that were requested without a nodule.

        Args:
            table: path of the table; it may be missing if no sample of the folder has a nodule.

        Raises:
            InputError: the table is not valid.
        """
        samples = self.samples(table.parent)
        listed = read_nodule_table(table) if table.is_file() or not samples else []
        known = {image.image for image in listed}
        without = [sample.scan for sample in samples if sample.is_empty and sample.scan not in known]
        return [*listed, *(TableImage(path, f"synthetic-{image_stem(path)}", None, (), table) for path in without)]

    def tables_of(self, scans: Iterable[Path]) -> list[Path]:
        """Return the paths of missing tables of folders of samples, which are missing if no sample has a nodule."""
        homes = {scan.parent.parent for scan in scans if scan in self._samples(scan.parent.parent)}
        return sorted(home / NODULE_TABLE for home in homes if not (home / NODULE_TABLE).exists())

    def usual(self, image: TableImage) -> Annotated:
        """Return whether a table lists all nodules of an image.

        A table lists all, except for an edited scan, for which it lists the injected nodules and not the patient's. If
        the manifest is damaged, the scan may be an edited one.
        """
        home = self.home(image.image)
        found = [self.of(folder) for folder in (home, image.table.parent) if folder is not None]
        for about in found:
            if about.get("annotated") in ANNOTATED:
                return about["annotated"]
        if {image.image.parent, image.table.parent} & self._damaged:
            return "some"
        files = [about.get("files") for about in found]
        return "some" if any(isinstance(each, dict) and "region" in each for each in files) else "all"

    def source_of(self, scan: Path) -> tuple[str, str]:
        """Return name and SHA-256 of the image from which a synthetic scan was made; empty if not known."""
        source = self.of(scan.parent).get("source")
        return (str(source.get("name", "")), str(source.get("sha256", ""))) if isinstance(source, dict) else ("", "")

    def patient_of(self, scan: Path) -> str:
        """Return the patient id of a scan in the manifest beside it; empty if there is none."""
        home = self.home(scan)
        return str(self.of(home).get("patient_id") or "") if home else ""

    def _listed(self, home: Path) -> dict[Path, Sample]:
        """Map each file of the CT samples that the manifest of a folder lists to its sample."""
        samples = self.of(home).get("samples")
        found: dict[Path, Sample] = {}
        for row in samples if isinstance(samples, list) else []:
            if isinstance(row, dict) and isinstance(row.get("files"), dict) and row["files"]:
                files = [home / str(name) for name in row["files"].values()]
                found |= dict.fromkeys(files, Sample(files[0], row.get("class") == 0 or row.get("asked") == []))
        return found


class Sample(NamedTuple):
    """A CT sample that a manifest lists.

    Attributes:
        scan: its file in the first of its formats, which the table names.
        is_empty: whether it was requested without a nodule.
    """

    scan: Path
    is_empty: bool
