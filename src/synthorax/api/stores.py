"""Opening the store that a call is given."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from synthorax.errors import InputError

if TYPE_CHECKING:
    from synthorax.datasets.store import Store


def store_given(data: str | Path | Store) -> Store:
    """Return a store that is open, or open one by its path.

    Raises:
        InputError: there is no store at the path; names what is there if it is something else of this tool.
    """
    from synthorax.datasets.store import Store
    from synthorax.io.own_kinds import STORE, own_kind
    from synthorax.provenance import MANIFEST

    if isinstance(data, str | Path) and (own := own_kind(Path(data))) and own != STORE:
        raise InputError(data, own.name, f"a store, as `synthorax prepare` writes; {own.use}")
    if isinstance(data, str | Path) and (Path(data) / MANIFEST).is_file():
        expected = "a store; `synthorax prepare patches` makes one of samples or edited scans"
        raise InputError(data, "a folder that `sample`, `inject` or `erase` wrote", expected)
    return Store.of(data)
