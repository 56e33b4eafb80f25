"""p values of comparisons of arms, which all studies correct by one rule."""

import pytest

from synthorax.studies import results
from synthorax.studies.results import LEAST_TRAININGS, with_corrected_p


def compared(p):
    return results.Test("raw + dots", "raw", "auc", 0.1, 0.0, 0.2, p, None)


def test_p_values_are_corrected_together_by_holms_method():
    found = with_corrected_p([compared(0.01), compared(0.04), compared(0.03)], LEAST_TRAININGS)
    assert [test.p for test in found] == [0.01, 0.04, 0.03]
    assert [test.p_holm for test in found] == pytest.approx([0.03, 0.06, 0.06])


def test_fewer_than_three_trainings_give_no_p_values():
    assert LEAST_TRAININGS == 3
    for test in with_corrected_p([compared(0.01), compared(0.04)], 2):
        assert (test.p, test.p_holm) == (None, None)
        assert test.low == 0.0  # the interval stays
