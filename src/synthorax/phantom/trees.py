"""Trees that fill a volume: pulmonary arteries, veins and the bronchi beside the arteries.

They grow as in Tawhai, Pullan and Hunter (2000): a plane through a branch and the centroid of its targets splits the
targets in two, and a new branch grows a share of the way towards the centroid of each part. Radii follow Murray (1926)
from the leaves to the root.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthorax.phantom.tubes import Tubes

SHARE = 0.3
"""A branch grows this share of the way to the centroid of its targets. Tawhai et al. have 0.4; less gives straighter,
more radial branches, as vessels have."""
WIDEST_TURN = np.radians(50)
"""Largest angle between a branch and its parent."""
PIECE_MM = 3.5
"""Length of the capsules of which a curved branch consists."""
UNEVEN_SPLIT = 0.6
"""Standard deviation of a splitting plane's distance from the centroid, in standard deviations of the targets."""


@dataclass(frozen=True, eq=False)
class Tree:
    """A tree of branches. Node 0 is the root; every other node is the end of the branch from its parent.

    Attributes:
        nodes: world positions in mm, [n, (x, y, z)].
        parent: index of each node's parent, which is below the node's own; 0 for the root.
        supplied: number of leaves at or beyond each node, [n].
        direction: unit vector of the branch that ends at each node, [n, (x, y, z)].
    """

    nodes: NDArray[np.float64]
    parent: NDArray[np.int64]
    supplied: NDArray[np.int64]
    direction: NDArray[np.float64]

    def radii(self, leaf_mm: float, root_mm: float) -> NDArray[np.float64]:
        """Return the radius at each node, [n], by Murray's law with the exponent that fits leaf and root."""
        exponent = np.log(max(self.supplied[0], 2)) / np.log(root_mm / leaf_mm)
        return leaf_mm * self.supplied ** (1 / exponent)

    def tubes(self, radii_mm: NDArray[np.float64], least_mm: float = 0.0) -> Tubes:
        """Return the branches as curved, tapering tubes.

        Args:
            radii_mm: radius at each node, [n].
            least_mm: branches that end with a smaller radius are left out.
        """
        drawn = np.flatnonzero(radii_mm[1:] >= least_mm) + 1
        parent = self.parent[drawn]
        a, b = self.nodes[parent], self.nodes[drawn]
        length = np.linalg.norm(b - a, axis=1)
        middle = a + 0.5 * length[:, None] * _unit(0.3 * self.direction[parent] + self.direction[drawn])
        thick, thin = np.minimum(radii_mm[parent], 1.2 * radii_mm[drawn]), radii_mm[drawn]
        pieces = np.clip(np.ceil(length / PIECE_MM), 1, 8).astype(int)
        owner = np.repeat(np.arange(len(drawn)), pieces)
        step = np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)

        def along(t: NDArray[np.float64]) -> NDArray[np.float64]:
            u = t[:, None]
            return (1 - u) ** 2 * a[owner] + 2 * u * (1 - u) * middle[owner] + u**2 * b[owner]

        t0, t1 = step / pieces[owner], (step + 1) / pieces[owner]
        n = len(owner)
        return Tubes(
            along(t0), along(t1), thick[owner] + t0 * (thin - thick)[owner], thick[owner] + t1 * (thin - thick)[owner],
            np.tile((0.0, 0.0, 1.0), (n, 1)), np.ones(n),
        )  # fmt: skip


def grow(
    root: NDArray[np.float64],
    direction: NDArray[np.float64],
    targets: NDArray[np.float64],
    inside: Callable[[NDArray[np.float64]], NDArray[np.bool_]],
    rng: np.random.Generator,
) -> Tree:
    """Grow a tree from a root to all targets, generation by generation.

    Args:
        root: world position (x, y, z) in mm.
        direction: unit vector of the vessel that ends at the root.
        targets: [n, (x, y, z)]; one leaf ends at each.
        inside: tells which of the points [n, (x, y, z)] may be nodes; branches to other points are shortened.
        rng: draws the splitting planes.
    """
    nodes, parents = [root[None]], [np.zeros(1, np.int64)]
    supplied, directions = [np.array([len(targets)])], [direction[None]]
    ends, ways, names = root[None], direction[None], np.zeros(1, np.int64)
    group, total = np.zeros(len(targets), np.int64), 1
    while len(targets):
        child = 2 * group + _side(targets, group, ends, ways, rng)
        kept, group = np.unique(child, return_inverse=True)
        mother = kept // 2
        count = np.bincount(group)
        aim = _centroids(targets, group, count) - ends[mother]
        distance = np.linalg.norm(aim, axis=1)
        way = _within_turn(ways[mother], aim / np.maximum(distance, 1e-6)[:, None])
        last = count == 1
        reach = distance * np.where(last, 1.0, SHARE)
        way[last] = aim[last] / np.maximum(distance[last], 1e-6)[:, None]
        for _ in range(4):
            outside = ~inside(ends[mother] + way * reach[:, None]) & ~last
            reach = np.where(outside, 0.55 * reach, reach)
        reached = ends[mother] + way * reach[:, None]
        nodes.append(reached)
        parents.append(names[mother])
        supplied.append(count)
        directions.append(way)
        names = total + np.arange(len(kept))
        total += len(kept)
        ends, ways = reached, way
        going = ~last[group]
        targets, group = targets[going], group[going]
    return Tree(*(np.concatenate(part) for part in (nodes, parents, supplied, directions)))


def _side(
    targets: NDArray[np.float64],
    group: NDArray[np.int64],
    ends: NDArray[np.float64],
    ways: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Return the side, 0 or 1, of each target of the splitting plane of its branch."""
    n = len(ends)
    count = np.bincount(group, minlength=n)
    to_centroid = _centroids(targets, group, count) - ends
    normal = _unit(np.cross(ways, to_centroid) + 1e-6 * rng.standard_normal((n, 3)))
    # If the branch points at the centroid, the plane is arbitrary. In real trees it turns from branch to branch.
    normal = _unit(normal + 0.2 * rng.standard_normal((n, 3)))
    height = np.einsum("ij,ij->i", targets - ends[group], normal[group])
    mean = np.bincount(group, height, n) / np.maximum(count, 1)
    spread = np.sqrt(np.maximum(np.bincount(group, height**2, n) / np.maximum(count, 1) - mean**2, 0))
    level = mean + UNEVEN_SPLIT * spread * rng.standard_normal(n)
    return (height > level[group]).astype(np.int64)


def _centroids(points: NDArray[np.float64], group: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[np.float64]:
    n = len(count)
    sums = np.column_stack([np.bincount(group, points[:, axis], n) for axis in range(3)])
    return sums / np.maximum(count, 1)[:, None]


def _within_turn(old: NDArray[np.float64], new: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the new directions, limited to `WIDEST_TURN` from the old ones."""
    cosine = np.clip(np.einsum("ij,ij->i", old, new), -1, 1)
    across = _unit(new - cosine[:, None] * old)
    turned = np.cos(WIDEST_TURN) * old + np.sin(WIDEST_TURN) * across
    return np.where((cosine < np.cos(WIDEST_TURN))[:, None], turned, new)


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
