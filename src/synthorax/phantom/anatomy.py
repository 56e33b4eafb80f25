"""The whole anatomy of one person, before it is put on voxels."""

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
    """The anatomy of one person, in millimetres.

    Attributes:
        build: sizes, proportions and densities of the person.
        shells: surfaces of the trunk: skin, muscle, cage, diaphragm.
        lungs: signed distances of the right and the left lung.
        fissures: between the lobes.
        mediastinum: heart, great vessels, central airways, oesophagus and lymph nodes.
        abdomen: organs under the diaphragm.
        skeleton: bones and cartilage.
        pulmonary: vessels and bronchi inside the lungs.
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
    """Make the anatomy of the person with this seed."""
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
