"""Painted CT compared with real CT by class, steps, borders and noise."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from synthorax.anatomy.tissue import TissueClass
from synthorax.studies.painted_maps import MAP_FIGURES, PaintedCase, gives_away, map_figures

LUNG, SOFT = TissueClass.OTHER, TissueClass.SOFT


def case(patient, seed, *, jump=0.0, blur=0.0, shift=0.0):
    """A case of lung beside soft tissue; painted slices differ by `jump`, or the painted CT is blurred or shifted."""
    random = np.random.default_rng(seed)
    classes = np.full((16, 16, 16), int(LUNG), np.uint8)
    classes[:, :6] = int(SOFT)
    base = np.where(classes == LUNG, -850, 40) + 200 * gaussian_filter(random.normal(size=classes.shape), 4)
    real, made = (base + random.normal(0, 20, classes.shape) for _ in range(2))
    made = gaussian_filter(made, blur) if blur else made
    made = made + shift + jump * random.choice([-1, 1], 16)[:, None, None]
    return PaintedCase(classes, real.astype(np.int16), made.astype(np.int16), patient)


def figures(**change):
    cases = [case(f"p{i}", i, **change) for i in range(6)]
    return map_figures(cases, made=True), map_figures(cases, made=False)


def test_painted_ct_that_is_as_real_has_its_figures():
    made, real = figures()
    assert {"other, mean HU", "soft, SD", "lung, step between slices"} <= set(made) <= set(MAP_FIGURES)
    assert "bone, mean HU" not in made
    for name, interval in made.items():
        assert interval.low - 3 <= real[name].mean <= interval.high + 3, name


@pytest.mark.parametrize(
    ("change", "name", "sign"),
    [
        ({"jump": 40.0}, "lung, step between slices", 1),
        ({"shift": 60.0}, "soft, mean HU", 1),
        ({"blur": 1.0}, "border of lung and soft tissue, step", -1),
        ({"blur": 1.0}, "noise in lung, correlation of neighbours", 1),
    ],
)
def test_a_fault_shows_in_its_figure(change, name, sign):
    made, real = figures(**change)
    assert sign * (made[name].mean - real[name].mean) > 0.1 * abs(real[name].mean)


def test_slices_that_jump_are_as_smooth_as_real_ones_within():
    made, real = figures(jump=40.0)
    assert made["lung, step in a slice"].mean == pytest.approx(real["lung, step in a slice"].mean, rel=0.1)


def test_a_volume_painted_from_a_patients_map_gives_the_patient_away():
    cases = [case(f"p{i}", i) for i in range(6)]
    others = np.stack([case("other", 20 + i).real for i in range(4)])
    assert gives_away(cases, others) == 1
    exchanged = [
        PaintedCase(a.classes, a.real, b.made, a.patient) for a, b in zip(cases, cases[1:] + cases[:1], strict=True)
    ]
    assert gives_away(exchanged, others) == 0
