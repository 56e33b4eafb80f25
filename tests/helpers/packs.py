"""Takes packs apart, changes them and puts them together again."""

import json
import zipfile


def members_of(path):
    """Return the bytes of each member of a pack, by name."""
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def written(path, members, compression=zipfile.ZIP_STORED):
    """Write members into a new pack; return its path."""
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def row_with(**changes):
    """Return a function that changes columns of the first case in the index, given the members of a pack."""

    def change(members):
        index = json.loads(members["index.json"])
        index["cases"][0] |= changes
        members["index.json"] = json.dumps(index).encode()

    return change
