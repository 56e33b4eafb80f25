"""Patches in the cache are read again only if they are those that were asked for."""

import numpy as np

from synthorax.datasets.patch_cache import cached_patches

SHAPE = (2, 3, 4, 5)


def kept(cache, hu, shape=SHAPE):
    """Patches of one HU, and whether they had to be made."""
    calls = []

    def make():
        calls.append(hu)
        return np.full(shape, hu, np.int16), np.ones(shape, np.uint8)

    ct, mask = cached_patches(cache, "some", shape, make)
    assert ct.shape == mask.shape == shape
    return int(ct[0, 0, 0, 0]), bool(calls)


def test_patches_are_made_once_and_then_read(tmp_path):
    assert kept(tmp_path, -800) == (-800, True)
    assert kept(tmp_path, 40) == (-800, False)


def test_files_of_another_shape_or_damaged_ones_are_made_again(tmp_path):
    kept(tmp_path, -800)
    assert kept(tmp_path, 40, (3, 3, 4, 5)) == (40, True)
    (tmp_path / "some-mask.npy").write_bytes(b"damaged")
    assert kept(tmp_path, 7, (3, 3, 4, 5)) == (7, True)
    assert kept(tmp_path, 8, (3, 3, 4, 5)) == (7, False)


def test_a_cache_that_cannot_be_written_costs_the_file_alone(tmp_path):
    (tmp_path / "file").write_text("no folder")
    assert kept(tmp_path / "file", -800) == (-800, True)
    assert kept(tmp_path / "file", -800) == (-800, True)
