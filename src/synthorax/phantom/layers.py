"""Painting a chest on voxels: its layers from the skin inwards, then vessels and airways."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from synthorax.anatomy.morphology import Box
from synthorax.anatomy.tissue import Tissue
from synthorax.phantom.abdomen import DIAPHRAGM_MM
from synthorax.phantom.anatomy import Anatomy
from synthorax.phantom.lattice import Field, Solid, solid
from synthorax.phantom.muscles import FASCIA_MM, armpits, back_muscles
from synthorax.phantom.painting import Canvas
from synthorax.phantom.pulmonary import emphysema, walled
from synthorax.phantom.raster import occupancy
from synthorax.phantom.table import Table
from synthorax.phantom.texture import texture
from synthorax.phantom.tubes import joined

ROOM_AIR_HU, LUMEN_HU, FAT_HU, MUSCLE_HU, SKIN_HU = -1000.0, -995.0, -102.0, 52.0, 30.0
CORTEX_HU, PLATE_HU, ENDPLATE_HU, MARROW_HU, DISC_HU = 780.0, 520.0, 620.0, 165.0, 82.0
CARTILAGE_HU, CANAL_HU, WALL_HU, NODE_HU, EMPHYSEMA_HU = 105.0, 22.0, 30.0, 38.0, -960.0
CORTEX_MM = 1.1
SKIN_MM = 1.8
FISSURE_MM = 0.3
LUNG_GRAIN_HU = 17.0
"""Standard deviation of the HU of lung tissue from place to place."""


class ChestPainter:
    """An anatomy prepared for voxels of a given size; paints any slab of them."""

    def __init__(self, anatomy: Anatomy, seed: int, spacing_mm: tuple[float, float, float]) -> None:
        self.anatomy, self.build = anatomy, anatomy.build
        shells, heart, abdomen = anatomy.shells, anatomy.mediastinum.heart, anatomy.abdomen

        def ready(field: Field) -> Solid:
            return solid(field.astype(np.float32, copy=False), spacing_mm)

        self.skin, self.under_skin = ready(shells.skin), ready(shells.skin + SKIN_MM)
        self.muscle, self.cage = ready(np.maximum(shells.muscle, shells.skin + 4)), ready(shells.cage)
        self.fascias = [(ready(shells.cage - out), thick) for out, thick in FASCIA_MM]
        self.armpits = ready(np.maximum(armpits(self.build, seed), shells.muscle + 4))
        self.back = back_muscles(self.build)
        self.diaphragm = ready(np.maximum(shells.cage, shells.abdomen))
        self.belly = ready(np.maximum(shells.abdomen + DIAPHRAGM_MM, shells.cage + 3))
        self.liver, self.spleen = ready(abdomen.liver), ready(abdomen.spleen)
        self.stomach, self.content, self.gas = ready(abdomen.stomach), ready(abdomen.stomach + 4), ready(abdomen.air)
        self.heart, self.left_heart, self.right_heart = ready(heart.muscle), ready(heart.left), ready(heart.right)
        self.lungs = [ready(lung) for lung in anatomy.lungs]
        sheets = anatomy.fissures
        self.fissures = [[ready(sheets.right), ready(sheets.horizontal)], [ready(sheets.left)]]
        self.lung_grain = texture(seed, "lung", (2.3, 4.7, 17.0), (0.45, 0.35, 0.2))
        self.bundles = texture(seed, "bundles", (21.0, 37.0), (0.4, 0.6))
        self.soft_grain = texture(seed, "soft", (3.1, 7.9), (0.5, 0.5))
        self.marrow = anatomy.skeleton.bones.grown(-CORTEX_MM)
        self.airways = joined([anatomy.mediastinum.airways, anatomy.pulmonary.bronchi])
        self.walls = walled(self.airways)
        self.holes = emphysema(self.build, seed)
        self.table = Table.under(shells.skin)

    def paint(self, canvas: Canvas) -> None:
        """Paint a slab whose masks are all zero so far."""
        air, frame = self.table.plane(canvas.grid, ROOM_AIR_HU)
        canvas.hu[:], canvas.tissues[:] = air, frame
        soft = self.soft_grain.on(canvas.grid)
        self._trunk(canvas, soft)
        self._abdomen(canvas, soft)
        self._mediastinum(canvas, soft)
        self._lungs(canvas)
        self._bones(canvas, soft)
        self._branches(canvas)
        self._outside(canvas, air, frame)

    def _outside(self, canvas: Canvas, air: NDArray[np.float32], frame: NDArray[np.uint8]) -> None:
        """Remove parts of inner structures outside the skin, at the ends of the model."""
        box, share = canvas.share(self.skin)
        outside = np.ones(canvas.hu.shape, np.bool_)
        outside[box] = share <= 0
        np.copyto(canvas.hu, air, where=outside)
        np.copyto(canvas.tissues, frame, where=outside)

    def _trunk(self, canvas: Canvas, soft: NDArray[np.float32]) -> None:
        box, share = canvas.share(self.skin)
        if share.size:
            canvas.body[box] = share >= 0.5
            canvas.paint(box, share, SKIN_HU, Tissue.SOFT)
        fat = FAT_HU + 9 * soft
        canvas.fill(self.under_skin, fat, Tissue.FAT)
        canvas.fill(self.muscle, MUSCLE_HU + 13 * soft, Tissue.SOFT)
        self._between_muscles(canvas, fat)
        canvas.fill(self.cage, fat, Tissue.FAT)
        box, share = canvas.share(self.muscle)
        share *= occupancy(canvas.near(self.back), canvas.grid)[box]
        canvas.paint(box, share, MUSCLE_HU + 13 * soft[box], Tissue.SOFT)

    def _between_muscles(self, canvas: Canvas, fat: NDArray[np.float32]) -> None:
        """Fat between the layers of the chest wall, in the armpits, and between the bundles of the shoulders."""
        box, share = canvas.share(self.muscle)
        if not share.size:
            return
        within = share * (canvas.tissues[box] == Tissue.SOFT)
        bundle = np.abs(self.bundles.on(canvas.grid.part(box)))
        canvas.paint(box, within * np.clip(1.6 - bundle / 0.07, 0, 0.85), fat[box], Tissue.FAT)
        for fascia, thick_mm in self.fascias:
            place, depth = canvas.depth(fascia)
            thick = np.float32(thick_mm / fascia.width_mm)
            sheet = np.clip(np.float32(0.5) + thick / 2 - np.abs(depth), 0, min(thick, np.float32(1)))
            canvas.paint(place, sheet * (canvas.tissues[place] == Tissue.SOFT), fat[place], Tissue.FAT)
        canvas.fill(self.armpits, fat, Tissue.FAT)

    def _abdomen(self, canvas: Canvas, soft: NDArray[np.float32]) -> None:
        organs = self.anatomy.abdomen
        canvas.fill(self.diaphragm, MUSCLE_HU, Tissue.SOFT)
        canvas.fill(self.belly, FAT_HU + 12 * soft, Tissue.FAT)
        canvas.fill(self.liver, organs.liver_hu + 5 * soft, Tissue.SOFT)
        canvas.fill(self.spleen, organs.spleen_hu + 5 * soft, Tissue.SOFT)
        canvas.fill(self.stomach, 45.0, Tissue.SOFT)
        canvas.fill(self.content, organs.content_hu + 6 * soft, Tissue.SOFT)
        canvas.fill(self.gas, ROOM_AIR_HU, Tissue.GAS)

    def _mediastinum(self, canvas: Canvas, soft: NDArray[np.float32]) -> None:
        parts = self.anatomy.mediastinum
        right, left = self.build.right_blood_hu, self.build.left_blood_hu
        canvas.fill(self.heart, 105.0 if self.build.enhanced else 46.0, Tissue.SOFT)
        canvas.fill(self.left_heart, left + 4 * soft, Tissue.BLOOD)
        canvas.fill(self.right_heart, right + 4 * soft, Tissue.BLOOD)
        canvas.draw(parts.nodes, NODE_HU, Tissue.SOFT)
        canvas.draw(parts.gullet, 42.0, Tissue.SOFT)
        canvas.draw(parts.right_blood, right, Tissue.BLOOD)
        canvas.draw(parts.left_blood, left, Tissue.BLOOD)

    def _lungs(self, canvas: Canvas) -> None:
        y, build = canvas.grid.y, self.build
        level = build.lung_hu + build.gravity_hu * y / 190 + build.dependent_hu * np.clip((y - 72) / 25, 0, 1) ** 2
        grain = self.lung_grain.on(canvas.grid)
        grain *= LUNG_GRAIN_HU
        grain += level.astype(np.float32)[:, None]
        share = occupancy(canvas.near(self.holes), canvas.grid)
        grain += share * (EMPHYSEMA_HU - grain)
        for lung, sheets, names in zip(self.lungs, self.fissures, ((3, 2, 1), (5, 4)), strict=True):
            box, depth = canvas.depth(lung)
            if not depth.size:
                continue
            share = np.clip(0.5 - depth, 0, 1)
            canvas.paint(box, share, grain[box], Tissue.LUNG)
            self._divide(canvas, box, depth <= 0, sheets, names)

    def _divide(
        self, canvas: Canvas, box: Box, inside: NDArray[np.bool_], sheets: list[Solid], names: tuple[int, ...]
    ) -> None:
        """Number the lobes of a lung, the lowest first, and draw the fissure above each."""
        part = canvas.grid.part(box)
        above = inside
        np.copyto(canvas.lobes[box], np.uint8(names[0]), where=inside)
        for sheet, name in zip(sheets, names[1:], strict=True):
            height = sheet.at(part.z, part.y, part.x)
            # The fissure is much thinner than a voxel, so that its share of a voxel is small.
            faint = np.float32(min(FISSURE_MM / sheet.width_mm, 1))
            canvas.paint(box, np.clip(1 - np.abs(height), 0, 1) * faint * above, 0.0, None)
            above = above & (height > 0)
            np.copyto(canvas.lobes[box], np.uint8(name), where=above)

    def _bones(self, canvas: Canvas, soft: NDArray[np.float32]) -> None:
        bones = self.anatomy.skeleton
        marrow = MARROW_HU * self.build.bone_density
        grid = canvas.grid
        canvas.draw(bones.discs, DISC_HU, Tissue.SOFT)
        canvas.draw(bones.cartilage, CARTILAGE_HU, Tissue.SOFT)
        canvas.draw(bones.plates, PLATE_HU, Tissue.BONE)
        canvas.draw(bones.bones, CORTEX_HU, Tissue.BONE)
        canvas.draw(self.marrow, marrow, Tissue.BONE)
        for body in bones.bodies:
            box, distance = body.distance(grid)
            if not distance.size:
                continue
            width = np.float32(np.mean(grid.spacing_mm))
            canvas.paint(box, np.clip(0.5 - distance / width, 0, 1), ENDPLATE_HU, Tissue.BONE)
            inner = np.clip(0.5 - (distance + 0.9) / width, 0, 1)
            canvas.paint(box, inner, marrow + 30 * soft[box], Tissue.BONE)
        canvas.draw(bones.canal, FAT_HU / 2, Tissue.SOFT)
        canvas.draw(bones.canal.grown(-1.5), CANAL_HU, Tissue.SOFT)

    def _branches(self, canvas: Canvas) -> None:
        branches = self.anatomy.pulmonary
        inside = canvas.lobes > 0
        veins = canvas.draw(branches.veins, self.build.left_blood_hu, Tissue.VESSEL)
        arteries = canvas.draw(branches.arteries, self.build.right_blood_hu, Tissue.VESSEL)
        vessel = (veins >= 0.5) | (arteries >= 0.5)
        canvas.tissues[vessel & ~inside] = Tissue.BLOOD
        canvas.vessels[:] = vessel & inside
        canvas.draw(self.walls, WALL_HU, Tissue.SOFT)
        lumen = canvas.draw(self.airways, LUMEN_HU, Tissue.AIRWAY)
        canvas.airways[:] = lumen >= 0.5
        canvas.vessels[canvas.tissues != Tissue.VESSEL] = False
