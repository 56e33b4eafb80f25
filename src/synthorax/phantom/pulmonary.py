"""The lobes, and the arteries, veins and bronchi inside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from synthorax.phantom.build import Build
from synthorax.phantom.lattice import HALF_MM, PITCH_MM, Field, at_points
from synthorax.phantom.mediastinum import Mediastinum
from synthorax.phantom.thorax import Fissures
from synthorax.phantom.trees import Tree, grow
from synthorax.phantom.tubes import Tubes, chain, joined
from synthorax.seeding import generator

LOBES = ("RUL", "RML", "RLL", "LUL", "LLL")
"""Names of the lobes 1 to 5: right upper, middle and lower, left upper and lower."""
TARGET_PITCH_MM = 12.0
"""A tree has a leaf in each cube of lung of this width."""
LEAF_DEPTH_MM = (4.0, 9.0)
"""Range of the least distance of a leaf from the pleura; drawn for each leaf."""
FIRST_BRANCH = 0.7
"""Radius at the root of a vessel's tree, as a share of the lobar vessel's end; with 1 the middle of the lung would hold
too many wide vessels."""
FISSURE_CLEAR_MM = 1.0
"""Least distance of a leaf from the border of its lobe."""
LEAST_BRONCHUS_MM = 0.85
"""Bronchi with a smaller radius are not drawn; CT does not show them."""
BRONCHIOLE_MM = 0.4
"""Radius of the lumen at the leaves of the bronchial trees."""


@dataclass(frozen=True, eq=False)
class Pulmonary:
    """The vessels and bronchi inside the lungs.

    Attributes:
        arteries, veins: capsules from the hilum to the leaves.
        bronchi: lumen of the lobar bronchi and their branches.
        artery_trees, vein_trees, bronchial_trees: tree of each lobe, 1 to 5.
    """

    arteries: Tubes
    veins: Tubes
    bronchi: Tubes
    artery_trees: dict[int, Tree]
    vein_trees: dict[int, Tree]
    bronchial_trees: dict[int, Tree]


def make_lobes(right: Field, left: Field, fissures: Fissures) -> dict[int, Field]:
    """Return the signed distance of each lobe, numbered from 1 as in `LOBES`."""
    above = np.maximum(right, -fissures.right)
    return {
        1: np.maximum(above, -fissures.horizontal),
        2: np.maximum(above, fissures.horizontal),
        3: np.maximum(right, fissures.right),
        4: np.maximum(left, -fissures.left),
        5: np.maximum(left, fissures.left),
    }


def make_pulmonary(
    build: Build, lobes: dict[int, Field], lungs: tuple[Field, Field], mediastinum: Mediastinum, seed: int
) -> Pulmonary:
    """Grow the vessels and bronchi of both lungs."""
    arteries: list[Tubes] = []
    veins: list[Tubes] = []
    bronchi: list[Tubes] = []
    trees: tuple[dict[int, Tree], ...] = ({}, {}, {})
    for lobe, field in lobes.items():
        lung = lungs[0] if lobe <= 3 else lungs[1]
        stems = (mediastinum.lobe_arteries[lobe], mediastinum.lobe_veins[lobe], mediastinum.lobe_bronchi[lobe])
        for kind, (stem, tubes) in enumerate(zip(stems[:2], (arteries, veins), strict=True)):
            rng = generator(seed, "phantom", "trees", lobe, kind)
            tree = grow(stem.end[-1], _way(stem), _targets(field, lung, build, rng), _within(field), rng)
            radii = tree.radii(build.artery_leaf_mm * (1.0 - 0.06 * kind), FIRST_BRANCH * float(stem.end_mm[-1]))
            trees[kind][lobe] = tree
            tubes += [stem, tree.tubes(radii)]
        tree = trees[0][lobe]
        bore = tree.radii(BRONCHIOLE_MM, float(stems[2].end_mm[-1]))
        radii = tree.radii(build.artery_leaf_mm, float(stems[0].end_mm[-1]))
        beside = _beside(tree, radii + 1.3 * bore + 0.5, stems[2])
        trees[2][lobe] = beside
        bronchi += [stems[2], beside.tubes(bore, LEAST_BRONCHUS_MM)]
    return Pulmonary(joined(arteries), joined(veins), joined(bronchi), *trees)


def _targets(lobe: Field, lung: Field, build: Build, rng: np.random.Generator) -> NDArray[np.float64]:
    """Leaves [n, (x, y, z)] spread evenly through a lobe, one at a random place in each cell of a grid."""
    held = np.argwhere(lobe < 0)
    low, high = held.min(0) * PITCH_MM - HALF_MM, held.max(0) * PITCH_MM - HALF_MM
    pitch = TARGET_PITCH_MM * build.size
    cells = np.stack(np.meshgrid(*(np.arange(a, b, pitch) for a, b in zip(low, high, strict=True)), indexing="ij"), -1)
    points = (cells + pitch * rng.random(cells.shape)).reshape(-1, 3)[:, ::-1]
    depth = rng.uniform(*LEAF_DEPTH_MM, len(points))
    inside = (at_points(lobe, points) < -FISSURE_CLEAR_MM) & (at_points(lung, points) < -depth)
    return points[inside]


def _within(lobe: Field) -> Callable[[NDArray[np.float64]], NDArray[np.bool_]]:
    return lambda points: at_points(lobe, points) < -1.5


def _way(stem: Tubes) -> NDArray[np.float64]:
    way = stem.end[-1] - stem.start[-1]
    return way / np.linalg.norm(way)


def _beside(tree: Tree, apart_mm: NDArray[np.float64], stem: Tubes) -> Tree:
    """A copy of a tree that runs beside it at a distance, from the end of its own stem."""
    shift = np.cross(tree.direction, (0.25, -1.0, 0.35))
    shift *= (apart_mm / np.maximum(np.linalg.norm(shift, axis=1), 1e-3))[:, None]
    nodes = tree.nodes + shift
    nodes[0] = stem.end[-1]
    direction = nodes - nodes[tree.parent]
    direction[0] = stem.end[-1] - stem.start[-1]
    direction /= np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-6)
    return replace(tree, nodes=nodes, direction=direction)


def walled(lumen: Tubes) -> Tubes:
    """Return airways with their walls, which are thicker in wider airways."""
    return replace(lumen, start_mm=lumen.start_mm * 1.1 + 0.35, end_mm=lumen.end_mm * 1.1 + 0.35)


def emphysema(build: Build, seed: int) -> Tubes:
    """Make centrilobular emphysema: holes of a few millimetres, most of them near the top of the lungs."""
    rng = generator(seed, "phantom", "holes")
    points = rng.uniform((-140, -95, -20), (140, 95, 140), (int(build.emphysema * 4), 3))
    points = build.to_world(points[rng.random(len(points)) < np.interp(points[:, 2], (-20, 120), (0.1, 1))])
    radii = rng.uniform(1.5, 5.0, len(points))
    ends = points + rng.normal(0, 2.0, points.shape)
    none = chain(np.zeros((1, 3)), 1.0)
    return joined([none, *(chain([a, b], r) for a, b, r in zip(points, ends, radii, strict=True))])
