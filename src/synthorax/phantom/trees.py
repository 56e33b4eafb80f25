"""Trees that fill a volume: pulmonary arteries, veins and the bronchi beside the arteries.

Grown as Tawhai, Pullan and Hunter (2000) grow airways: the points that a branch must supply are split by the plane
through the branch and their centroid, and a branch grows a share of the way towards the centroid of either part.
Radii follow Murray (1926) from the leaves up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthorax.phantom.tubes import Tubes

SHARE = 0.3
"""A branch grows so far of the way to the centroid of what it supplies. Less than the 0.4 of Tawhai et al. makes
the straighter, more radial branches that vessels have."""
WIDEST_TURN = np.radians(50)
PIECE_MM = 3.5
"""Length of the capsules a curved branch is drawn with."""
UNEVEN_SPLIT = 0.6
"""Standard deviation of a splitting plane's distance from the centroid, in standard deviations of the targets."""


@dataclass(frozen=True, eq=False)
class Tree:
    """A tree of branches; node 0 is its root, every other the end of the branch from its parent.

    Attributes:
        nodes: world millimetres [n, (x, y, z)].
        parent: index of each node's parent, less than its own; the root's is 0.
        supplied: leaves at or beyond each node, [n].
        direction: unit direction of the branch that ends at each node, [n, (x, y, z)].
    """

    nodes: NDArray[np.float64]
    parent: NDArray[np.int64]
    supplied: NDArray[np.int64]
    direction: NDArray[np.float64]

    def radii(self, leaf_mm: float, root_mm: float) -> NDArray[np.float64]:
        """Radius at each node by Murray's law, its exponent such that leaves and root are as thick as given."""
        exponent = np.log(max(self.supplied[0], 2)) / np.log(root_mm / leaf_mm)
        return leaf_mm * self.supplied ** (1 / exponent)

    def tubes(self, radii_mm: NDArray[np.float64], least_mm: float = 0.0) -> Tubes:
        """Curved, tapering branches, those down to a radius.

        Args:
            radii_mm: [n], at each node.
            least_mm: branches that end thinner are left out.
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
    """A tree from a root to all targets, a generation of branches at a time.

    Args:
        root: [(x, y, z)], world millimetres.
        direction: unit vector in which the root's vessel runs.
        targets: [n, (x, y, z)]; one leaf ends at each.
        inside: whether points [n, (x, y, z)] may hold a node; branches that would leave are shortened.
        rng: where the planes of branching come from.
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
    """0 or 1 for each target: its side of the plane through its branch and about the centroid."""
    n = len(ends)
    count = np.bincount(group, minlength=n)
    to_centroid = _centroids(targets, group, count) - ends
    normal = _unit(np.cross(ways, to_centroid) + 1e-6 * rng.standard_normal((n, 3)))
    # Where the branch points at the centroid the plane may lie anyhow; real trees turn it from one to the next.
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
    """New directions, turned back to where they leave the old ones by the widest turn at most."""
    cosine = np.clip(np.einsum("ij,ij->i", old, new), -1, 1)
    across = _unit(new - cosine[:, None] * old)
    turned = np.cos(WIDEST_TURN) * old + np.sin(WIDEST_TURN) * across
    return np.where((cosine < np.cos(WIDEST_TURN))[:, None], turned, new)


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
