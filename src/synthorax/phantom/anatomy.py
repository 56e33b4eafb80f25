"""All of one person's anatomy, before it is put on voxels."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from synthorax.phantom.abdomen import Abdomen, make_abdomen
from synthorax.phantom.build import Build, draw_build
from synthorax.phantom.lattice import Field
from synthorax.phantom.mediastinum import Mediastinum, make_mediastinum
from synthorax.phantom.pulmonary import Pulmonary, make_lobes, make_pulmonary
from synthorax.phantom.skeleton import Skeleton, make_skeleton
from synthorax.phantom.thorax import Fissures, Shells, make_fissures, make_lungs, make_shells


@dataclass(frozen=True, eq=False)
class Anatomy:
    """One person, in millimetres.

    Attributes:
        build: what was drawn.
        shells: skin, muscle, cage, diaphragm.
        lungs: signed distance of the right and the left.
        fissures: between the lobes.
        mediastinum: between the lungs.
        abdomen: below them.
        skeleton: around them.
        pulmonary: within them.
    """

    build: Build
    shells: Shells
    lungs: tuple[Field, Field]
    fissures: Fissures
    mediastinum: Mediastinum
    abdomen: Abdomen
    skeleton: Skeleton
    pulmonary: Pulmonary


def make_anatomy(seed: int) -> Anatomy:
    """The person of a seed."""
    build = draw_build(seed)
    with ThreadPoolExecutor(4) as pool:
        trunk = pool.submit(make_shells, build)
        between = pool.submit(make_mediastinum, build, seed)
        sheets, bones = pool.submit(make_fissures, build, seed), pool.submit(make_skeleton, build, seed)
        shells, mediastinum, fissures, skeleton = trunk.result(), between.result(), sheets.result(), bones.result()
    lungs = make_lungs(shells, mediastinum.pleura, skeleton.bones, build)
    lobes = make_lobes(*lungs, fissures)
    return Anatomy(
        build,
        shells,
        lungs,
        fissures,
        mediastinum,
        make_abdomen(build, shells, seed),
        skeleton,
        make_pulmonary(build, lobes, lungs, mediastinum, seed),
    )
