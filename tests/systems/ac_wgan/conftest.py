"""Runs of the AC-WGAN-GP without pictures."""

import pytest

from synthorax.systems.ac_wgan.system import AcWgan


@pytest.fixture(scope="module", autouse=True)
def preview():
    """Trainings draw nothing, which takes most of the time of a small run; gives the method that draws."""
    drawing = AcWgan.preview
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AcWgan, "preview", lambda self: None)
        yield drawing
