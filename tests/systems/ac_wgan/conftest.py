"""Runs of the AC-WGAN-GP without pictures."""

import pytest

from synthorax.systems.ac_wgan.system import AcWgan


@pytest.fixture(scope="module", autouse=True)
def preview():
    """Switch off previews, which take most of the time of a small run; give the method that draws them."""
    drawing = AcWgan.preview
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AcWgan, "preview", lambda self: None)
        yield drawing
