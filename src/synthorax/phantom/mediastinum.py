"""The mediastinum: heart, great vessels, central airways, oesophagus and lymph nodes, and the pleura around them.

Courses are polylines with (x, y, z, radius) at each point, in millimetres of the reference chest (`Build`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synthorax.phantom.build import Build
from synthorax.phantom.lattice import Field, add_tubes, distance, ellipsoid, empty, union
from synthorax.phantom.thorax import PLEURA, reference_axes, section_at
from synthorax.phantom.tubes import Tubes, chain, joined, smooth_tube
from synthorax.seeding import generator

Course = tuple[tuple[float, float, float, float], ...]
HEART_CENTER = (14.0, -32.0, -42.0)

AORTA: Course = (
    (8, -26, -22, 15), (2, -29, -5, 16.5), (-4, -30, 15, 17), (-4, -28, 45, 17), (5, -21, 66, 16.5),
    (21, -8, 79, 15), (36, 13, 80, 14), (40, 31, 66, 13.5), (38, 36, 45, 13), (35, 38, 0, 12.5),
    (31, 33, -40, 12.5), (22, 24, -80, 12), (8, 16, -115, 11.5), (3, 15, -260, 10.5),
)  # fmt: skip
ARCH_BRANCHES: tuple[Course, ...] = (
    ((8, -18, 76, 7), (-4, -12, 100, 6.5), (-14, -8, 125, 6), (-30, -2, 142, 4.5), (-70, -2, 146, 4.2),
     (-115, -12, 124, 4), (-160, 0, 140, 3.5)),
    ((-14, -8, 125, 4), (-22, -6, 150, 3.8), (-28, 0, 200, 3.6), (-28, 0, 260, 3.4)),
    ((24, -6, 86, 4.2), (19, -4, 112, 4), (22, -4, 145, 3.8), (28, 0, 200, 3.6), (28, 0, 260, 3.4)),
    ((36, 11, 86, 5), (36, 10, 118, 5), (50, 4, 140, 4.5), (85, -4, 144, 4.2), (120, -12, 124, 4), (160, 0, 140, 3.5)),
)  # fmt: skip
SYSTEMIC_VEINS: tuple[Course, ...] = (
    ((-16, -20, 88, 8), (-21, -12, 62, 9.5), (-25, -8, 35, 10), (-28, -16, 5, 11), (-28, -26, -20, 14)),
    ((-16, -20, 88, 8), (-26, -22, 110, 7), (-48, -20, 134, 6.5), (-85, -20, 134, 5), (-118, -24, 116, 4.6),
     (-158, -10, 132, 4)),
    ((-26, -22, 110, 6), (-34, -12, 150, 5.5), (-38, -6, 200, 5), (-38, -4, 260, 5)),
    ((-16, -20, 88, 7), (8, -36, 94, 7), (32, -34, 106, 6.5), (50, -22, 132, 6), (85, -20, 134, 5),
     (120, -24, 116, 4.6), (158, -10, 132, 4)),
    ((38, -30, 112, 6), (38, -14, 150, 5.5), (42, -6, 200, 5), (42, -4, 260, 5)),
    ((-26, -24, -55, 13), (-24, -16, -88, 11.5), (-22, -6, -130, 11), (-16, 4, -180, 10.5), (-14, 8, -260, 10)),
    ((-21, -10, 64, 3.6), (-21, 8, 66, 3.6), (-12, 24, 54, 3.4), (-5, 29, 30, 3.2), (-3, 30, -60, 3),
     (-4, 26, -150, 2.5)),
)  # fmt: skip
PULMONARY_TRUNK: Course = ((14, -56, -6, 14.5), (20, -44, 10, 14), (27, -27, 24, 13.5), (26, -10, 33, 12.5))
RIGHT_ARTERY: Course = ((25, -9, 32, 12), (2, 0, 29, 11), (-22, 3, 27, 10.5), (-38, 6, 24, 9))
LEFT_ARTERY: Course = ((26, -10, 33, 12), (38, 3, 39, 11), (53, 15, 39, 10), (62, 23, 28, 9))
LOBE_ARTERIES: dict[int, Course] = {
    1: ((-30, 3, 27, 8), (-43, 2, 33, 6), (-55, 4, 42, 5.2)),
    2: ((-48, 14, 8, 6), (-55, 6, -1, 4.4), (-62, -2, -6, 4)),
    3: ((-38, 6, 24, 9), (-48, 14, 8, 8), (-52, 22, -8, 6.6), (-55, 27, -20, 5.6)),
    4: ((53, 15, 39, 8), (60, 8, 44, 6.5), (68, 2, 46, 5.4)),
    5: ((62, 23, 28, 8.5), (64, 28, 10, 7.2), (64, 31, -6, 5.8)),
}
"""Course from the hilum to the root of each lobe's arterial tree; lobes 1 to 5 are RUL, RML, RLL, LUL, LLL."""
ATRIAL_VEINS: dict[int, Course] = {
    1: ((-20, -4, -8, 9), (-36, -8, 0, 7), (-46, -10, 10, 5.2), (-52, -12, 20, 4.6)),
    2: ((-36, -8, 0, 4.5), (-46, -14, -6, 3.6), (-54, -20, -12, 3.2)),
    3: ((-20, 6, -24, 9), (-38, 13, -30, 6.5), (-50, 20, -38, 5)),
    4: ((34, -3, -2, 9), (46, -8, 6, 7), (55, -12, 18, 5.2)),
    5: ((34, 7, -22, 9), (48, 14, -29, 6.5), (58, 22, -38, 5)),
}
TRACHEA: Course = (
    (2, -6, 260, 8.5), (2, -6, 170, 8.5), (3, -2, 120, 8.5), (4, 4, 90, 8.5), (5, 9, 68, 9), (5, 12, 55, 9),
)  # fmt: skip
MAIN_BRONCHI: tuple[Course, ...] = (
    ((5, 12, 55, 8), (-8, 14, 46, 7), (-21, 14, 38, 6.5), (-30, 16, 26, 5.8), (-35, 18, 10, 5.2), (-37, 20, 2, 5)),
    ((5, 12, 55, 8), (18, 14, 44, 6.6), (32, 17, 33, 6.2), (44, 19, 24, 5.8)),
)
LOBE_BRONCHI: dict[int, Course] = {
    1: ((-21, 14, 38, 6), (-36, 11, 41, 5), (-48, 10, 46, 4.4)),
    2: ((-36, 18, 6, 4.4), (-46, 8, -3, 3.7), (-56, 0, -9, 3.3)),
    3: ((-37, 20, 2, 5), (-44, 25, -12, 4.8), (-49, 29, -24, 4.4)),
    4: ((44, 19, 24, 5.4), (54, 10, 25, 4.8), (62, 3, 31, 4.4)),
    5: ((44, 19, 24, 5.4), (51, 26, 9, 4.9), (56, 31, -8, 4.5)),
}
OESOPHAGUS: Course = (
    (6, 20, 260, 7), (6, 21, 120, 7), (9, 24, 80, 7), (11, 28, 50, 7), (8, 25, 15, 7), (12, 20, -30, 7),
    (15, 6, -80, 8), (24, -4, -104, 9), (45, -16, -122, 10),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Heart:
    """Signed distances of the heart.

    Attributes:
        outside: pericardium with the fat under it.
        muscle: walls and chambers.
        right, left: blood of the right and of the left heart.
    """

    outside: Field
    muscle: Field
    right: Field
    left: Field


@dataclass(frozen=True, eq=False)
class Mediastinum:
    """The structures between the lungs.

    Attributes:
        heart: chambers, walls and pericardium.
        right_blood: systemic veins and central pulmonary arteries.
        left_blood: aorta and its branches.
        airways: lumen of trachea and main bronchi.
        gullet: oesophagus.
        nodes: lymph nodes.
        lobe_arteries, lobe_veins, lobe_bronchi: from the hilum to the root of a lobe's tree, for lobes 1 to 5.
        pleura: signed distance of the surface around all of these, next to which the lungs lie.
    """

    heart: Heart
    right_blood: Tubes
    left_blood: Tubes
    airways: Tubes
    gullet: Tubes
    nodes: Tubes
    lobe_arteries: dict[int, Tubes]
    lobe_veins: dict[int, Tubes]
    lobe_bronchi: dict[int, Tubes]
    pleura: Field


def tube(build: Build, course: Course, *, heart: bool = False) -> Tubes:
    """Return a course as a smooth tube in this person; with `heart`, it is scaled with the heart."""
    known = np.array(course, dtype=np.float64)
    factor = build.heart if heart else 1.0
    points = np.array(HEART_CENTER) + (known[:, :3] - HEART_CENTER) * factor if heart else known[:, :3]
    return smooth_tube(build.to_world(points), known[:, 3] * build.size * factor)


def make_mediastinum(build: Build, seed: int) -> Mediastinum:
    """Make the mediastinum of a person."""
    heart = _heart(build)
    aorta = tube(build, AORTA)
    veins = [tube(build, course) for course in SYSTEMIC_VEINS]
    central = [tube(build, course) for course in (PULMONARY_TRUNK, RIGHT_ARTERY, LEFT_ARTERY)]
    airways = [tube(build, course) for course in (TRACHEA, *MAIN_BRONCHI)]
    branches = [tube(build, course) for course in ARCH_BRANCHES]
    gullet = tube(build, OESOPHAGUS)
    lobe_arteries, lobe_veins, lobe_bronchi = (
        {lobe: tube(build, course) for lobe, course in courses.items()}
        for courses in (LOBE_ARTERIES, ATRIAL_VEINS, LOBE_BRONCHI)
    )
    pleura = union(heart.outside, _septum(build), 10.0)
    add_tubes(pleura, _spine(build), 12.0)
    for part in (aorta, gullet, *branches, *veins, *central, *airways):
        add_tubes(pleura, part, 8.0, 3.0)
    return Mediastinum(
        heart, joined(veins + central), joined([aorta, *branches]), joined(airways), gullet, _nodes(build, seed),
        lobe_arteries, lobe_veins, lobe_bronchi, distance(pleura),
    )  # fmt: skip


def _heart(build: Build) -> Heart:
    """The four chambers and two outflow tracts, blended; the apex of the left ventricle points left and forward."""

    def chamber(*course: tuple[float, float, float, float]) -> Tubes:
        return tube(build, course, heart=True)

    def blob(center: tuple[float, float, float], half: tuple[float, float, float]) -> Field:
        moved = np.array(HEART_CENTER) + (np.array(center) - HEART_CENTER) * build.heart
        return ellipsoid(build.to_world(moved), np.array(half) * build.scale * build.heart)

    right_atrium, left_atrium = blob((-27, -31, -38), (19, 25, 31)), blob((8, 0, -19), (35, 16, 22))
    left = empty()
    add_tubes(left, chamber((24, -22, -36, 19), (40, -38, -50, 20), (60, -54, -66, 9)), 4.0)
    add_tubes(left, chamber((26, -22, -34, 15), (10, -25, -24, 15)), 8.0)
    left = union(left, left_atrium, 4.0)
    left_muscle = empty()
    add_tubes(left_muscle, chamber((25, -23, -38, 29), (42, -39, -52, 31), (63, -57, -69, 19)), 6.0)
    left_muscle = union(left_muscle, left_atrium - 2, 5.0)
    right = empty()
    add_tubes(right, chamber((-12, -50, -54, 25), (12, -62, -64, 22), (44, -70, -76, 13)), 8.0)
    add_tubes(right, chamber((2, -58, -50, 22), (10, -62, -25, 17), (14, -57, -6, 14.5)), 10.0)
    right = np.maximum(right, -(left_muscle - 1))  # the septum belongs to the left ventricle
    right = union(right, right_atrium, 6.0)
    muscle = union(union(right - 2.5, left_muscle, 5.0), right_atrium - 2, 4.0)
    outside = union(right - 5, left_muscle - 3, 30.0)
    for center, half in (((-44, -76, -80), (22, 18, 22)), ((78, -74, -84), (26, 20, 18))):
        outside = union(outside, blob(center, half), 18.0)  # pads of fat beside the heart
    return Heart(distance(outside), distance(muscle), distance(right), distance(left))


def _septum(build: Build) -> Field:
    """Fat and pleura between the lungs where no organ is: thin behind the sternum, wide at the thoracic inlet."""
    x, y, z = reference_axes(build)
    height = z[:, :1, :1]
    _, front, _ = section_at(PLEURA, height)
    middle = np.interp(height, (-150, 0, 40, 60, 75, 90, 110, 130, 140, 150), (14, 11, 12, 15, 18, 22, 27, 34, 41, 50))
    wide = (
        3.0
        + middle * np.exp(-(((y - 4) / 36) ** 4))
        + (np.interp(height, (-90, -40, 0, 90), (60, 44, 18, 16)) * np.exp(-np.maximum(y - front, 0) / 8))
    )
    wide += 7 * np.exp(-(((y + 48) / 20) ** 2) - ((height - 50) / 35) ** 2)  # the remainder of the thymus
    return distance((np.abs(x - 2) - wide).astype(np.float32))


def _spine(build: Build) -> Tubes:
    """Return the vertebrae and the muscle behind them, as a surface next to which the lungs lie."""
    heights = np.linspace(-250, 250, 26)
    bodies = np.column_stack([np.zeros(26), np.full(26, 49), heights])
    behind = np.column_stack([np.zeros(26), np.full(26, 92), heights])
    wide = np.interp(heights, (-120, 120), (24, 20)) * build.size
    beside = [np.add(behind, (side * 33, 10, 0)) for side in (-1, 1)]
    return joined(
        [
            chain(build.to_world(bodies), wide),
            chain(build.to_world(behind), 29 * build.size),
            *(chain(build.to_world(line), 20 * build.size) for line in beside),
        ]
    )


def _nodes(build: Build, seed: int) -> Tubes:
    """Lymph nodes at usual places: beside the trachea, below the carina, in the aortopulmonary window."""
    rng = generator(seed, "phantom", "nodes")
    usual = np.array([(-14, 2, 70), (-12, 4, 60), (6, 18, 38), (2, 20, 32), (32, 0, 58), (-8, -6, 90), (30, -22, 64)])
    points = build.to_world(usual + rng.normal(0, 2.5, usual.shape))
    along = rng.normal(0, 2.5, usual.shape)
    radii = rng.uniform(1.5, 4.0, len(usual))
    parts = [chain([p - a, p + a], r) for p, a, r in zip(points, along, radii, strict=True)]
    return joined(parts)
