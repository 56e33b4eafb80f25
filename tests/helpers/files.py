"""Compares and damages files."""


def contents(folder):
    """Return the bytes of every file below a folder by its relative path, and False for each subfolder."""
    return {str(path.relative_to(folder)): path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def flip(path, at=0.5):
    """Flip the lowest bit of one byte of a file.

    Args:
        at: position of the byte as a share of the file's length.
    """
    data = bytearray(path.read_bytes())
    data[int(at * len(data))] ^= 1
    path.write_bytes(data)
