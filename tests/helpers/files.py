"""Files compared and damaged."""


def contents(folder):
    """The bytes of every file below a folder by its relative path; False for each folder below it."""
    return {str(path.relative_to(folder)): path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def flip(path, at=0.5):
    """Flip the lowest bit of one byte of a file.

    Args:
        at: place of the byte, as a part of the file's length.
    """
    data = bytearray(path.read_bytes())
    data[int(at * len(data))] ^= 1
    path.write_bytes(data)
