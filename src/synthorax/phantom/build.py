"""The build of a person: all quantities that differ between two chests, in millimetres and HU."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synthorax.seeding import generator


@dataclass(frozen=True)
class Build:
    """The build of a person.

    The anatomy is defined once, in the millimetres of a reference chest: a tall man lying on his back whose lungs are
    317 mm wide, 200 mm deep and 285 mm high. Scale, turn and lean transform it to this person.

    Attributes:
        scale: size along (x, y, z), relative to the reference.
        turn: rotation about the long axis in radians, because no patient lies quite straight.
        lean: sideways shift per height, mm per mm.
        fat_mm: thickness of the subcutaneous fat at the flank.
        breast_mm: thickness of the breasts; 0 without breasts.
        kyphosis_mm: distance of the middle of the thoracic spine behind its ends.
        heart: size of the heart, relative to the reference.
        slant: steepness of the ribs, relative to the reference.
        domes_mm: height of the right and the left diaphragm above the reference.
        enhanced: whether contrast agent was given.
        right_blood_hu: HU of right heart, systemic veins and pulmonary arteries.
        left_blood_hu: HU of left heart, aorta and pulmonary veins.
        lung_hu: HU of lung tissue in the middle of the chest.
        gravity_hu: difference in HU between the lung at the back and at the front.
        dependent_hu: further HU in the lowest centimetre or two of the lung.
        emphysema: density of emphysematous holes in the upper lung; 0 without emphysema.
        artery_leaf_mm: radius of the smallest pulmonary arteries that are drawn.
        bone_density: density of the marrow, relative to a young adult's.
    """

    scale: tuple[float, float, float]
    turn: float
    lean: float
    fat_mm: float
    breast_mm: float
    kyphosis_mm: float
    heart: float
    slant: float
    domes_mm: tuple[float, float]
    enhanced: bool
    right_blood_hu: float
    left_blood_hu: float
    lung_hu: float
    gravity_hu: float
    dependent_hu: float
    emphysema: float
    artery_leaf_mm: float
    bone_density: float

    @property
    def size(self) -> float:
        """Mean scale, by which radii of vessels and bones are multiplied."""
        return float(np.mean(self.scale))

    def to_world(self, points: ArrayLike) -> NDArray[np.float64]:
        """Return world millimetres [..., (x, y, z)] of points [..., (x, y, z)] of the reference chest."""
        points = np.array(points, dtype=np.float64)
        points[..., :2] += self._bend(points[..., 2])
        return points @ self._matrix().T

    def to_reference(self, x: NDArray, y: NDArray, z: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        """Return the coordinates (x, y, z) in the reference chest of world millimetres; the arrays broadcast."""
        inverse = np.linalg.inv(self._matrix())
        height = z * inverse[2, 2]
        bend = self._bend(height)
        x, y = inverse[0, 0] * x + inverse[0, 1] * y, inverse[1, 0] * x + inverse[1, 1] * y
        return x - bend[..., 0], y - bend[..., 1], height

    def _matrix(self) -> NDArray[np.float64]:
        c, s = np.cos(self.turn), np.sin(self.turn)
        return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.diag(self.scale)

    def _bend(self, z: NDArray) -> NDArray[np.float64]:
        """The position [..., (x, y)] of the trunk's axis at a height: it leans, and is furthest back in the middle."""
        back = self.kyphosis_mm * (1 / 3 - np.sin(np.pi * z / 400) ** 2)
        return np.stack([self.lean * z, back], axis=-1)


def draw_build(seed: int) -> Build:
    """Draw the build of the person with this seed."""
    rng = generator(seed, "phantom", "build")
    size = float(np.clip(rng.normal(0.94, 0.045), 0.83, 1.02))
    wide, deep, high = (float(share) for share in rng.uniform(0.94, 1.06, 3))
    enhanced = bool(rng.random() < 0.5)
    plain = rng.uniform(35, 45)
    blood = rng.uniform(130, 235, 2) if enhanced else np.full(2, plain)
    female = rng.random() < 0.45
    emphysematous = rng.random() < 0.3
    dependent = rng.random() < 0.4
    return Build(
        scale=(min(size * wide, 1.0), size * deep, min(size * high, 1.03)),
        turn=float(np.radians(rng.normal(0, 1.5))),
        lean=float(rng.normal(0, 0.012)),
        fat_mm=float(np.clip(rng.gamma(3.0, 6.0), 5, 45)),
        breast_mm=float(rng.uniform(12, 32)) if female else 0.0,
        kyphosis_mm=float(rng.uniform(4, 18)),
        heart=float(rng.uniform(0.92, 1.1)),
        slant=float(rng.uniform(0.85, 1.12)),
        domes_mm=(float(rng.normal(0, 5)), float(rng.normal(0, 5))),
        enhanced=enhanced,
        right_blood_hu=float(blood[0]),
        left_blood_hu=float(blood[1]),
        lung_hu=float(rng.uniform(-890, -852)),
        gravity_hu=float(rng.uniform(35, 70)),
        dependent_hu=float(rng.uniform(30, 110)) if dependent else 0.0,
        emphysema=float(rng.uniform(30, 140)) if emphysematous else 0.0,
        artery_leaf_mm=float(rng.uniform(0.61, 0.71)),
        bone_density=float(rng.uniform(0.65, 1.1)),
    )
