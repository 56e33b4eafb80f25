"""The names of the features fit above their histograms."""

from itertools import pairwise

import numpy as np

from synthorax.figures import histograms
from synthorax.shapes.features import FEATURES


def test_titles_of_histograms_do_not_run_into_each_other():
    values = np.random.default_rng(0).normal(size=(20, len(FEATURES)))
    drawn = histograms({"real": values, "generated": values + 1}, FEATURES, ["blue", "orange"])
    drawn.draw_without_rendering()
    titles = [axes._left_title.get_window_extent() for axes in drawn.axes if axes.get_title(loc="left")]
    assert len(titles) == len(FEATURES)
    for one, other in pairwise(titles):
        assert other.x0 < one.x0 or one.x1 < other.x0
    assert max(title.x1 for title in titles) <= drawn.bbox.width
