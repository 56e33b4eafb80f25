"""Making whole scans with a model, putting nodules into some of them, and writing each as it is made."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from importlib.metadata import version
from math import floor
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from synthorax.api.edit_requests import method_of, request_of
from synthorax.api.folder_runs import where_workers_are
from synthorax.api.sampling import MOST_SAMPLES
from synthorax.errors import InputError, resumable
from synthorax.makers import as_recorded
from synthorax.seeding import check_seed

if TYPE_CHECKING:
    from synthorax.datasets.scan_folder import ScanFolder
    from synthorax.hub import Model
    from synthorax.lineage import Lineage
    from synthorax.makers import Maker, Method, Options, Streams
    from synthorax.volume import Volume

WITH_NODULES = 0.5
"""Default share of the scans that have nodules if a method to inject them is given, as in CT-SGAN."""


def sample_scan(
    model: str | Path | Model | Maker, index: int = 0, *, seed: int = 0, device: str = "cpu", **options: Any
) -> Volume:
    """Make one scan in memory.

    Args:
        model: model or maker that makes scans, or its name or run folder.
        index: number of the scan in its seed.
        seed: seed of the scans.
        device: device of the networks.
        options: options of the model's system, such as `depth`.

    Returns:
        HU, int16 [z, y, x], with geometry.

    Raises:
        InputError: there is no such model, it makes no scans, or it does not have an option.
    """
    from synthorax import hub

    check_seed(seed)
    maker = streams_of(model, device)
    return maker.scan(index, seed, hub.options_for(maker, options)).whole()


def sample_scans(
    model: str | Path | Model | Maker,
    n: int,
    out: str | Path,
    *,
    seed: int = 0,
    inject: str | Path | Model | Method | None = None,
    share: float = WITH_NODULES,
    diameter_mm: float | None = None,
    workers: int = 1,
    cluster: str | None = None,
    overwrite: bool = False,
    device: str = "cpu",
    **options: Any,
) -> ScanFolder:
    """Make `n` scans and write each slab by slab, so that deep scans need no more memory.

    Scan i of a seed is the same whatever `n` is. The same call resumes a call that was stopped.

    Args:
        model: model or maker that makes scans, or its name or run folder.
        n: number of scans.
        out: folder to write: images, masks, `nodules.csv` and `manifest.json`; `prepare patches` makes a store of it.
        seed: seed of the scans.
        inject: method that puts nodules into some scans, as in `inject`. Numbers and diameters are drawn as in
            LIDC-IDRI's scans, places in the lungs. If None, no scan has nodules.
        share: share of the scans that have nodules, chosen with the seed; of the first n scans it is `share * n`,
            rounded up or down. A scan with nodules is in memory as a whole.
        diameter_mm: put one nodule of this diameter into each of these scans instead.
        workers: number of processes; a single process uses all cores for one scan.
        cluster: address of a Dask scheduler to use instead, whose workers see the same files.
        overwrite: replace scans in `out` that were made with other options.
        device: device of the networks.
        options: options of the model's system, such as `depth`.

    Raises:
        InputError: there is no such model, it makes no scans, or it does not have an option; the method does not
            inject; or `out` has something else.
        OutputError: the folder cannot be written, or the disk is full; the same call then resumes.
    """
    from synthorax import hub
    from synthorax.datasets.scan_folder import SCANS_RECIPE, scans_begun
    from synthorax.parallel import check_workers

    if not 1 <= n <= MOST_SAMPLES:
        raise InputError("n", str(n), f"1 to {MOST_SAMPLES}")
    if not 0 <= share <= 1:
        raise InputError("share", f"{share:g}", "0 to 1")
    check_workers(workers)
    check_seed(seed)
    maker = streams_of(model, device)
    chosen = hub.options_for(maker, options)
    first = maker.scan(0, seed, chosen)  # raises errors about options before anything is written
    method = None if inject is None else method_of(inject, "injects", {}, device)
    request: dict[str, Any] = {
        "makes": "scans",
        "synthorax": version("synthorax"),
        "recipe": SCANS_RECIPE,
        "system": maker.name,
        "model_sha256": maker.lineage.model_sha256,
        "seed": seed,
        "how": {} if chosen is None else chosen.recorded(),
        "arithmetic": {**first.arithmetic, **({} if device == "cpu" else {"device": device})},
    }
    if method is not None:
        request["inject"] = {"method": as_recorded(inject), "model_sha256": method.lineage.model_sha256, "share": share}
        request["inject"] |= {"diameter_mm": diameter_mm} if diameter_mm else {"like": "LIDC-IDRI"}
        _asked(diameter_mm)  # raises an error about the diameter before anything is written
    if workers == 1 and cluster is None:  # this process makes the scans, with what it has loaded
        model, inject = maker, method
    model, inject = where_workers_are(model), where_workers_are(inject)
    with scans_begun(Path(out), request, n, overwrite) as rows:
        job = _Make(Path(out).resolve(), model, inject, chosen, seed, share, diameter_mm, device, uuid.uuid4().hex)
        _run(job, rows, n, workers, cluster)
        return _finished(Path(out), rows, maker, method, request)


def streams_of(model: str | Path | Model | Maker, device: str = "cpu") -> Streams:
    """Return the maker of scans for a name, run folder or loaded model.

    Raises:
        InputError: there is no such model, or it makes no scans.
    """
    from synthorax import hub

    return cast("Streams", hub.find(model, "makes scans", device=device))


def gets_nodules(index: int, share: float, seed: int) -> bool:
    """Whether a scan is one of the share with nodules; of the first n scans, `share * n`, rounded up or down, are.

    >>> [gets_nodules(i, 0.5, seed=7) for i in range(6)]
    [False, True, False, True, False, True]
    """
    from synthorax.seeding import generator

    first = float(generator(seed, "scans with nodules").random())
    return floor((index + 1) * share + first) > floor(index * share + first)


def _asked(diameter_mm: float | None) -> Any:
    """Return the request for the nodules of one scan.

    Raises:
        InputError: no nodule can have the diameter.
    """
    auto: Any = "lidc" if diameter_mm is None else 1
    return request_of((), auto, () if diameter_mm is None else diameter_mm, None, "lung", None, False)


@dataclass(frozen=True)
class _Make:
    """A function that can be pickled: makes and writes the scan with an index, and returns its row of the manifest.

    Attributes:
        token: identifies the call, so that each process loads the makers once for it.
    """

    out: Path
    model: Any
    inject: Any
    options: Options | None
    seed: int
    share: float
    diameter_mm: float | None
    device: str
    token: str

    def __call__(self, index: int) -> dict[str, Any]:
        from synthorax.anatomy.lungs import find_lungs
        from synthorax.datasets.scan_folder import write_stream, write_with_nodules
        from synthorax.editing.scan import inject_scan
        from synthorax.io.scans import Scan
        from synthorax.provenance import Origin
        from synthorax.seeding import derive

        maker, method = self._makers()
        stream = maker.scan(index, self.seed, self.options)
        origin = Origin(maker.name, maker.lineage.model_sha256, self.seed)
        if method is None or not gets_nodules(index, self.share, self.seed):
            return write_stream(self.out, index, stream, origin)
        ct = stream.whole()
        own = derive(self.seed, "nodules", index)
        try:
            edited = inject_scan(Scan(ct), _asked(self.diameter_mm), method, own, find_lungs)
        except InputError as error:
            why = "no nodule was put in: {}: found {}".format(*error.args)  # what is expected is of `inject`
            whole = replace(stream, slabs=iter([ct.voxels]), notes=(*stream.notes, why))
            return write_stream(self.out, index, whole, origin)
        noted = replace(stream, notes=(*stream.notes, *edited.notes))
        row = write_with_nodules(self.out, index, noted, edited.ct, edited.mask, edited.nodules, origin)
        return {**row, "outlines": sorted(edited.lineage.outlines)}

    def _makers(self) -> tuple[Streams, Method | None]:
        """Return the maker and the method, which are loaded once in each process of a call."""
        if _loaded.get("token") != self.token:
            method = None if self.inject is None else method_of(self.inject, "injects", {}, self.device)
            _loaded.update(token=self.token, makers=(streams_of(self.model, self.device), method))
        return cast("tuple[Streams, Method | None]", _loaded["makers"])


_loaded: dict[str, Any] = {}
"""Maker and method of the call that this process works for."""


def _run(job: _Make, rows: dict[int, dict[str, Any]], n: int, workers: int, cluster: str | None) -> None:
    """Make the scans that are missing, tell the progress on the screen, and add their rows to `rows`."""
    from synthorax.datasets.progress import with_progress
    from synthorax.datasets.scan_folder import IMAGES_FOLDER, MASKS_FOLDER, add_row, scan_name
    from synthorax.io.locks import clear_leftovers
    from synthorax.parallel import map_processes

    missing = [index for index in range(n) if index not in rows]
    made = map_processes(job, missing, workers=workers, chunk=1, cluster=cluster, name=scan_name)
    try:
        with resumable(lambda: len(rows), n), closing(made):
            for row in with_progress(made, "scans", len(missing)):
                add_row(job.out, row)
                rows[row["index"]] = row
    finally:
        for folder in (IMAGES_FOLDER, MASKS_FOLDER):
            clear_leftovers(job.out / folder)  # of workers that were stopped


def _finished(
    out: Path, rows: Mapping[int, dict[str, Any]], maker: Streams, method: Method | None, request: Mapping[str, Any]
) -> ScanFolder:
    """Write the table and the manifest of all scans."""
    from synthorax.datasets.scan_folder import finish_scans
    from synthorax.provenance import Origin

    lineage: Lineage = maker.lineage
    has = any(row["nodules"] for row in rows.values())
    if method is not None and has:
        outlines = [outline for row in rows.values() for outline in row.get("outlines", ())]
        lineage = lineage.joined(replace(method.lineage, outlines=frozenset(outlines)))
    known = maker.nodules_known if maker.nodules_known == "all" or not has else "some"
    about = {
        "synthetic": Origin(maker.name, maker.lineage.model_sha256, request["seed"]).mark,
        "system": maker.name,
        "model_sha256": maker.lineage.model_sha256,
        "seed": request["seed"],
        "how": dict(request["how"]),
        **request["arithmetic"],
        **({"inject": request["inject"]} if "inject" in request else {}),
    }
    return finish_scans(out, rows, lineage, known, about)
