"""Reading stores of format 1, which have one label map for each case, without overlaps, and no hashes of chunks."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path

from numpy.typing import NDArray

from synthorax.datasets import rows
from synthorax.datasets.arrays import CASE_ARRAYS, METADATA, Layout, StoredArray
from synthorax.datasets.case import CaseEntry
from synthorax.errors import InputError
from synthorax.io.limits import read_bounded
from synthorax.region import Region, regions_of

MASK = Layout("uint8", (32, 128, 128), ("z", "y", "x"))
REMEDY = "prepare the store again, or unpack it again"
MOST_V1_METADATA_BYTES = 2**26


def regions(case: Path, entry: CaseEntry) -> tuple[Region, ...]:
    """Return the region of each label of a case; some may be empty.

    Raises:
        InputError: the mask is damaged.
    """
    return _regions(case, entry.shape, entry.labels)


@lru_cache(maxsize=4)
def _regions(case: Path, shape: tuple[int, int, int], labels: int) -> tuple[Region, ...]:
    return tuple(regions_of(_mask(case, shape), range(1, labels + 1)))


def _mask(case: Path, shape: tuple[int, int, int]) -> NDArray:
    return StoredArray(case / "mask", MASK, shape, None, REMEDY, may_miss=True).read((0, 0, 0), shape)


def check(case: Path, entry: CaseEntry) -> tuple[int, list[InputError]]:
    """Return 1 and, if the voxels or nodules of a case were changed after they were written, an error.

    Raises:
        InputError: the case cannot be read.
    """
    try:
        about = rows.json_object(read_bounded(case / METADATA, MOST_V1_METADATA_BYTES))["attributes"]["synthorax"]
        row, points = about["entry"] | {"sha256": ""}, about["points"]
    except (ValueError, LookupError, TypeError) as error:
        expected = f"the file as it was written; {REMEDY}"
        raise InputError(case / METADATA, f"a damaged case ({error})", expected) from error
    ct = StoredArray(case / "ct", CASE_ARRAYS["ct"], entry.shape, None, REMEDY).read((0, 0, 0), entry.shape)
    content = hashlib.sha256(ct.data)
    if entry.has_mask:
        content.update(_mask(case, entry.shape).data)
    content.update(json.dumps([row, points], sort_keys=True).encode())
    if content.hexdigest() != entry.sha256:
        found = "voxels or nodules changed after they were written"
        return 1, [InputError(case, found, f"an unchanged case; {REMEDY}")]
    return 1, []
