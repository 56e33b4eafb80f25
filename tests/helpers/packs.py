"""Packs taken apart and put together again, changed, as tests do."""

import json
import zipfile


def members_of(path):
    """The members of a pack by their names."""
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def written(path, members, compression=zipfile.ZIP_STORED):
    """Write members into a new pack; returns its path."""
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def row_with(**changes):
    """A function that changes the row of the first case among the members of a pack."""

    def change(members):
        index = json.loads(members["index.json"])
        index["cases"][0] |= changes
        members["index.json"] = json.dumps(index).encode()

    return change
