"""Writing samples into a folder of standard files with a manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from math import isfinite
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from synthorax.annotations.nodule_table import NODULE_TABLE, nodule_cells
from synthorax.errors import InputError
from synthorax.io.atomic import atomic_folder
from synthorax.io.images import write_image
from synthorax.io.stl import write_stl
from synthorax.io.tables import table_writer
from synthorax.makers import Samples
from synthorax.nodule import Nodule
from synthorax.provenance import MANIFEST, Origin, manifest_writer
from synthorax.shapes.diameter import NOTED_SHARE
from synthorax.shapes.features import FEATURES, shape_features
from synthorax.volume import Volume

Format = Literal["npy", "nifti", "mha", "stl"]
SUFFIX_OF_FORMAT = {"nifti": ".nii.gz", "mha": ".mha"}
"""Suffix of the image files of each format."""
OF_SHAPES: tuple[Format, ...] = get_args(Format)
"""Formats of nodule shapes; by default all are written."""
OF_PATCHES: tuple[Format, ...] = ("nifti", "mha")
"""Formats of CT patches; by default the first is written."""


def write_samples(
    folder: Path,
    samples: Samples | Iterable[Samples],
    *,
    seed: int,
    how: Mapping[str, Any],
    formats: Sequence[str] | None = None,
    overwrite: bool = False,
    tell: Callable[[str], None] = lambda note: None,
) -> str:
    """Write samples with a manifest, all or nothing; return a text that says what was written.

    Files for nodule shapes:

        masks/0000.nii.gz, masks/0000.mha   the mask, marked as synthetic in its header
        meshes/0000.stl                     its watertight surface in millimetres
        shapes.npy                          all masks, bool [n, z, y, x]
        features.csv                        the 12 features, one row for each nodule
        manifest.json                       the maker, and the details and features of each shape

    Files for CT patches:

        images/00000.nii.gz                 HU, marked as synthetic in the header
        masks/00000.nii.gz                  labels of the nodules, if the maker gives masks
        nodules.csv                         one row for each nodule, from which `prepare patches` makes a store
        manifest.json                       the maker, and the details of each patch

    Args:
        folder: folder to write.
        samples: samples, or an iterable of parts, each of which is written before the next one is made.
        seed: seed of the samples, for the manifest.
        how: further arguments of the request, for the manifest.
        formats: some of `OF_SHAPES` or `OF_PATCHES`.
        overwrite: replace a folder that an earlier call wrote.
        tell: function that gets each note of the samples.

    Raises:
        InputError: there are no samples, a format does not apply to them, or the folder holds something else.
        OutputError: the folder cannot be written.
    """
    if unknown := [name for name in formats or () if name not in OF_SHAPES]:
        raise InputError("formats", repr(unknown[0]), " or ".join(OF_SHAPES))
    parts = iter([samples] if isinstance(samples, Samples) else samples)
    with atomic_folder(folder, overwrite=overwrite) as target:
        first = next(parts, None)
        if first is None:
            raise InputError("samples", "none", "one or more")
        is_patch = "ct" in first.arrays
        known = OF_PATCHES if is_patch else OF_SHAPES
        chosen = formats if formats is not None else OF_PATCHES[:1] if is_patch else OF_SHAPES
        if not chosen or not set(chosen) <= set(known):
            raise InputError("formats", ", ".join(chosen) or "none", " or ".join(known))
        lineage = first.lineage
        origin = Origin(lineage.name, lineage.model_sha256, seed)
        about = {
            "synthetic": origin.mark,
            "system": lineage.name,
            "model_sha256": lineage.model_sha256,
            "seed": seed,
            "how": dict(how),
            "spacing_zyx_mm": list(first.spec.spacing_mm),
            **first.arithmetic,
            "lineage": lineage.row(),
            "formats": list(chosen),
        }
        notes: list[str] = []
        written = _Patches(target, origin, chosen) if is_patch else _Shapes(target, origin, chosen)
        count = tried = 0
        measured_mm: list[float] = []
        asked_mm: list[float] = []
        with written, manifest_writer(target / MANIFEST, about, "samples", notes) as tell_manifest:
            for part in chain([first], parts):
                for note in part.notes:
                    tell(note)
                notes += [note for note in part.notes if note not in notes]
                for row in written.write(part, count):
                    tell_manifest(row)
                count, tried = count + len(part), tried + part.tried
                measured_mm += _measured_mm(part)
                asked_mm += [one.diameter_mm for own in part.asked for one in own if one.diameter_mm is not None]
            if note := _note_on_widths(measured_mm, asked_mm):
                tell(note)
                notes.append(note)
    one, several = ("patch", "patches") if is_patch else ("nodule shape", "nodule shapes")
    line = f"{count} {one if count == 1 else several} of {' x '.join(map(str, first.spec.size))} voxels"
    if tried != count:
        line += f", selected from {tried}"
    if measured_mm:
        least, middle, most = np.quantile(measured_mm, (0, 0.5, 1))
        line += f"; diameters measured on the masks: {least:.1f} to {most:.1f} mm, median {middle:.1f} mm"
    return line


def _note_on_widths(measured_mm: Sequence[float], asked_mm: Sequence[float]) -> str:
    """Return a note if the median of the diameters on the masks is far from that of the requested ones; else empty."""
    if not measured_mm or not asked_mm:
        return ""
    made, wanted = float(np.median(measured_mm)), float(np.median(asked_mm))
    if abs(made - wanted) <= NOTED_SHARE * wanted:
        return ""
    how = "its masks may be drawn wider or narrower than the diameters that its training data state"
    return f"the median diameter on the masks is {made:.1f} mm, requested was {wanted:.1f} mm: {how}"


def _measured_mm(part: Samples) -> list[float]:
    """Return the diameters of the nodules in a part that are those of their masks."""
    all_nodules = [nodule for nodules in part.nodules for nodule in nodules]
    diameters = [each.attributes.diameter_mm for each in all_nodules if each.extra.get("diameter_is") == "measured"]
    return [diameter for diameter in diameters if diameter is not None]


class _Writer(ExitStack):
    """Writes samples into a folder, in the chosen formats and with the mark of generated voxels."""

    def __init__(self, target: Path, origin: Origin, formats: Sequence[str]) -> None:
        super().__init__()
        self._target, self._origin, self._formats = target, origin, formats

    def _images(self, kind: str, name: str, volume: Volume) -> dict[str, str]:
        """Write a volume into the subfolder `kind` in every image format; return each format with its file."""
        files = {form: f"{kind}/{name}{SUFFIX_OF_FORMAT[form]}" for form in self._formats if form in SUFFIX_OF_FORMAT}
        for file in files.values():
            (self._target / kind).mkdir(exist_ok=True)
            write_image(self._target / file, volume, mark=self._origin.mark)
        return files


class _Shapes(_Writer):
    """Writes nodule shapes: masks, meshes, one NumPy stack and a table of features."""

    def __init__(self, target: Path, origin: Origin, formats: Sequence[str]) -> None:
        super().__init__(target, origin, formats)
        if "stl" in formats:
            (target / "meshes").mkdir()
        self._tell_table = self.enter_context(table_writer(target / "features.csv"))
        self._stack = self.enter_context(_stack_writer(target / "shapes.npy" if "npy" in formats else None))

    def write(self, part: Samples, count: int) -> Iterator[dict[str, Any]]:
        """Write a part whose first sample has the number `count`; yield the manifest's entry of each sample."""
        spacing, fields, masks = part.spec.spacing_mm, part.arrays["occupancy"], part.masks
        self._stack(masks)
        features = shape_features(masks, spacing).tolist()
        for i, (field, mask, values) in enumerate(zip(fields, masks, features, strict=True)):
            name = f"{count + i:04d}"
            self._images("masks", name, Volume(mask, spacing))
            if "stl" in self._formats:
                from synthorax.shapes.mesh import surface  # needs SciPy, which CT patches do not need

                mesh = surface(field, spacing)
                write_stl(self._target / "meshes" / f"{name}.stl", mesh.triangles_mm, self._origin.mark)
            # A single voxel has an infinite f6, which JSON cannot represent.
            row = dict(zip(FEATURES, (value if isfinite(value) else None for value in values), strict=True))
            self._tell_table({"nodule": name, **row})
            yield {"name": name, **part.details[i], "features_alnsb": row}


class _Patches(_Writer):
    """Writes CT patches: images, masks if there are any, and a table of nodules."""

    def __init__(self, target: Path, origin: Origin, formats: Sequence[str]) -> None:
        super().__init__(target, origin, formats)
        self._tell_table: Callable[[Mapping[str, Any]], None] | None = None
        (target / "images").mkdir()

    def write(self, part: Samples, count: int) -> Iterator[dict[str, Any]]:
        """Write a part whose first sample has the number `count`; yield the manifest's entry of each sample."""
        for i, hu in enumerate(part.ct):
            name = f"{count + i:05d}"
            files = self._images("images", name, Volume(hu, part.spec.spacing_mm))
            entry: dict[str, Any] = {"files": files}
            masks: dict[str, str] = {}
            if "mask" in part.arrays:
                masks = self._images("masks", name, Volume(part.arrays["mask"][i], part.spec.spacing_mm))
                entry["masks"] = masks
            for nodule in part.nodules[i]:
                own = {"mask": masks[self._formats[0]], "mask_label": nodule.label} if masks and nodule.label else {}
                self._tell_nodule(files[self._formats[0]], own, f"synthetic-{name}", nodule)
            asked = [one.given() for one in part.asked[i]]
            yield {**entry, "index": int(part.index[i]), "asked": asked[0] if len(asked) == 1 else asked} | dict(
                part.details[i]
            )

    def _tell_nodule(self, image: str, mask: Mapping[str, Any], patient: str, nodule: Nodule) -> None:
        if self._tell_table is None:  # a folder without a nodule has no table
            self._tell_table = self.enter_context(table_writer(self._target / NODULE_TABLE))
        blank = {"mask": "", "mask_label": ""} if (self._target / "masks").is_dir() else {}
        row = {"image": image, **blank, **mask, "patient_id": patient, **nodule_cells(nodule)}
        self._tell_table({**row, **nodule.extra})


@contextmanager
def _stack_writer(path: Path | None) -> Iterator[Callable[[NDArray], None]]:
    """Open a NumPy file [n, z, y, x] for writing part by part; yield the function that writes a part.

    Args:
        path: the file; None to write nothing.
    """
    if path is None:
        yield lambda part: None
        return
    shape: tuple[int, ...] = (0,)

    def header(stream: BinaryIO, dtype: np.dtype) -> None:
        about = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, about)

    with open(path, "wb") as stream:

        def write(part: NDArray) -> None:
            nonlocal shape
            if shape == (0,):
                shape = part.shape
                header(stream, part.dtype)
            else:
                shape = (shape[0] + len(part), *shape[1:])
            stream.write(np.ascontiguousarray(part).data)

        yield write
        # NumPy pads its header, so that it can be rewritten with a larger first axis.
        stream.seek(0)
        header(stream, np.dtype(bool))
