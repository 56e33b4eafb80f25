"""The demo: train on real nodule shapes, generate new ones, put three into a chest, and show all of it on a page."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape

from synthorax import api, figures
from synthorax.anatomy.placement import Clearance
from synthorax.annotations.lidc_table import CITATION
from synthorax.datasets.lidc import LidcShapes
from synthorax.datasets.phantoms import make_phantom
from synthorax.datasets.shapes import ShapeSet
from synthorax.editing.edited import Edited
from synthorax.errors import InputError
from synthorax.hub import Model
from synthorax.io.atomic import working_in
from synthorax.makers import Samples
from synthorax.nodule import NoduleAttributes
from synthorax.report import write_page
from synthorax.seeding import derive
from synthorax.shapes.features import FEATURES, shape_features
from synthorax.shapes.overlap import dice
from synthorax.shapes.reconnection import ON_THRESHOLD
from synthorax.systems.lung.base_set import repair_inverted
from synthorax.systems.lung.system import Lung
from synthorax.training.files import read_log
from synthorax.volume import Volume

NODULES = 51
"""Real nodules that the demo trains on; LuNG (LuNG's paper) had 51 too."""
DEMO_DIAMETER_MM = (5.0, 12.0)
"""Range of the longest diameter, mean over readers, of the real nodules: common, hard to detect, quick to learn."""
GENERATED = 400
"""Shapes that the trained model generates."""
SHOWN_SHAPES = 12
"""Generated shapes that the page shows and whose files are written."""
INJECTED_MM = (8.0, 12.0, 16.0)
"""Diameters of the nodules that are put into the chest."""
AROUND_VOXELS = 30
"""Pixels shown on each side of an injected nodule's centre."""
VOLUME = list(FEATURES).index("f5")
"""Column of the volume, in cubic millimetres, among the shape features."""
WALK_STEPS = 6
"""Shapes in the walk through latent space from one real nodule to another, both ends included."""


@dataclass
class Clock:
    """The seconds that each part of the demo took, by its name."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str, console: Console) -> Iterator[None]:
        """Print the name of a part and time the block that does it."""
        console.print(f"[bold]{name}[/bold]")
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started


def run_demo(out: Path, *, seed: int = 0, preset: str = "smooth") -> Path:
    """Train on real shapes, generate, repair, measure, and write `index.html` into `out`.

    If an earlier demo in `out` was stopped, training continues from its last saved step.

    Args:
        out: a new folder, or the folder of an earlier demo.
        seed: seed of every random choice.
        preset: preset of LuNG's training.

    Returns:
        The path of the page.

    Raises:
        InputError: `out` is a file, or a folder with anything in it but an earlier demo.
    """
    with working_in(out):
        return _run_demo(out, seed, preset)


def _run_demo(out: Path, seed: int, preset: str) -> Path:
    console, clock = Console(stderr=True), Clock()
    page = out / "index.html"
    if out.exists() and any(out.iterdir()) and not (out / "run").is_dir():
        raise InputError(out, "a folder that is not empty", "a new folder, or one of an earlier demo")
    with clock.part("Real nodules: outlines of LIDC-IDRI's readers to shapes", console):
        lidc = api.lidc_shapes()
        seeds = demo_nodules(lidc, seed)
    with clock.part("Training: LuNG's shape autoencoder", console):
        api.train("lung", seeds, out / "run", preset=preset, seed=seed)
    with clock.part("Generating and reconnecting", console):
        model = api.load(out / "run")
        made = api.sample(model, GENERATED, seed=seed)
    with clock.part("Measuring", console):
        features = {
            "real": shape_features(seeds.occupancy > 0, seeds.spacing_mm),
            "generated": shape_features(made.masks, seeds.spacing_mm),
        }
    with clock.part("Files for 3D Slicer and Blender", console):
        api.write_samples(out / "nodules", made.rows(np.arange(SHOWN_SHAPES)), seed=seed, overwrite=True)
    with clock.part("A chest, and three of the new nodules in it", console):
        chest = make_phantom(derive(seed, "demo"), nodules=0).ct
        injected = api.inject(
            chest,
            auto=len(INJECTED_MM),
            diameter_mm=INJECTED_MM,
            shapes=model,
            attributes=NoduleAttributes(texture=5, margin=4, spiculation=1, calcification=6),
            clearance=Clearance(wall_mm=5, vessel_mm=None, nodule_mm=30),
            seed=seed,
            out=out / "chest",
            overwrite=True,
        )
    with clock.part("Pictures and page", console):
        content = _page_content(model, lidc, seeds, made, features, out / "run")
        content |= {"chest": _chest_figure(chest, injected), "injected": injected.nodules}
        write_page(page, "demo.html", **content, clock=clock.seconds, seed=seed)
    console.print(f"\nOpen [bold]{escape(str(page))}[/bold]")
    return page


def demo_nodules(lidc: LidcShapes, seed: int) -> ShapeSet:
    """Draw `NODULES` real shapes with a diameter within `DEMO_DIAMETER_MM`, each of another patient."""
    low, high = DEMO_DIAMETER_MM
    sizes = [record.attributes.diameter_mm or 0.0 for record in lidc.shapes.records]
    return lidc.shapes.select([i for i, size in enumerate(sizes) if low <= size <= high]).draw(NODULES, seed)


def _page_content(
    model: Model,
    lidc: LidcShapes,
    seeds: ShapeSet,
    made: Samples,
    features: dict[str, NDArray[np.float64]],
    run: Path,
) -> dict[str, object]:
    """Return the values that the page's template asks for, by name."""
    system = model.system
    assert isinstance(system, Lung)
    spacing = seeds.spacing_mm
    volumes = features["real"][:, VOLUME]
    by_size = np.argsort(volumes)
    shown = by_size[np.linspace(4, len(by_size) - 5, 6).astype(int)]
    learned = system.generate(system.encode(seeds.occupancy))
    walk = system.walk(seeds.occupancy[shown[1]], seeds.occupancy[shown[-1]], WALK_STEPS)
    log = [record for record in read_log(run) if "mse" in record]
    content: dict[str, object] = {
        "real": figures.surfaces(
            [seeds.occupancy[i] > 0 for i in shown] + list(learned.masks[shown]),
            spacing,
            captions=[f"real, {volumes[i]:.0f} mm³" for i in shown] + ["copy"] * len(shown),
            colours=[figures.REAL] * len(shown) + [figures.SYNTHETIC] * len(shown),
            columns=len(shown),
        ),
        "generated": figures.surfaces(
            list(made.masks[:SHOWN_SHAPES]),
            spacing,
            captions=[f"{i:04d}   {v:.0f} mm³" for i, v in enumerate(features["generated"][:SHOWN_SHAPES, VOLUME])],
            colours=[figures.SYNTHETIC] * SHOWN_SHAPES,
            columns=6,
        ),
        "slices": figures.slices(
            [*system.target(seeds.occupancy[shown[[1, 4]]]), *made.arrays["occupancy"][:4]],
            spacing,
            captions=["real", "real"] + [f"new {i:04d}" for i in range(4)],
            colours=[figures.REAL] * 2 + [figures.SYNTHETIC] * 4,
        ),
        "walk": figures.surfaces(
            list(walk.masks),
            spacing,
            captions=["copy of one", *(f"step {i}" for i in range(1, WALK_STEPS - 1)), "copy of another"],
            colours=[figures.SYNTHETIC] * WALK_STEPS,
            columns=WALK_STEPS,
        ),
        "histograms": figures.histograms(features, FEATURES, [figures.REAL, figures.SYNTHETIC]),
        "curve": figures.curve(
            [r["step"] for r in log], [r["mse"] for r in log], "training step", "squared error x 1000"
        ),
        "repair": _repair_figure(system, made, spacing),
        "n_real": len(seeds),
        "counts": lidc.counts,
        "diameter_mm": DEMO_DIAMETER_MM,
        "n_generated": len(made),
        "clean": sum(each["pieces_before_reconnection"] == 1 for each in made.details),
        "inverted": sum(each["inverted_by_network"] for each in made.details),
        "dice": float(dice(learned.masks, seeds.occupancy > 0).mean()),
        "steps": log[-1]["step"],
        "medians": [
            (name, text, *(float(np.median(values[:, i])) for values in features.values()))
            for i, (name, text) in enumerate(FEATURES.items())
        ],
        "volume_ratio": float(np.median(features["generated"][:, VOLUME]) / np.median(volumes)),
        "sha256": model.sha256,
        "citation": CITATION,
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "date": date.today().isoformat(),
        "n_files": SHOWN_SHAPES,
    }
    return content


def _chest_figure(chest: Volume, injected: Edited) -> figures.Figure:
    """Draw the slice through each injected nodule: the whole slice, then the nodule's surroundings before and after."""
    shown = []
    for nodule in injected.nodules:
        z, y, x = np.rint(chest.to_voxel(nodule.center_mm)).astype(int).tolist()
        none = np.zeros(chest.shape[1:], bool)
        place = ", ".join(f"{c:.0f}" for c in nodule.center_mm)
        outline = injected.mask.voxels[z] == nodule.label
        middle = (chest.shape[1] // 2, chest.shape[2] // 2)
        shown += [
            figures.Slice(
                injected.ct.voxels[z], outline, f"at {place} mm", middle, figures.SYNTHETIC, half=max(middle)
            ),
            figures.Slice(chest.voxels[z], none, "before", (y, x)),
            figures.Slice(injected.ct.voxels[z], none, f"after, {nodule.attributes.diameter_mm:.0f} mm", (y, x)),
            figures.Slice(injected.ct.voxels[z], outline, "its mask", (y, x), figures.SYNTHETIC),
        ]
    return figures.ct_slices(shown, half=AROUND_VOXELS, columns=4)


def _repair_figure(system: Lung, made: Samples, spacing: tuple[float, float, float]) -> figures.Figure | None:
    """Draw the generated nodule whose pieces took the most voxels to join, before and after; None if all were whole."""
    pieces = np.array([each["pieces_before_reconnection"] for each in made.details])
    broken = np.flatnonzero(pieces > 1)
    if not len(broken):
        return None
    latents = np.array([made.details[i]["latent"] for i in broken], np.float32)
    raw, _ = repair_inverted(system.decode(latents))
    added = (made.masks[broken] & (raw < ON_THRESHOLD)).sum((1, 2, 3))
    chosen = int(np.argmax(added))
    return figures.surfaces(
        [raw[chosen] >= ON_THRESHOLD, made.masks[broken[chosen]]],
        spacing,
        captions=[f"{pieces[broken[chosen]]} pieces", f"joined by {added[chosen]} voxels"],
        colours=[figures.SYNTHETIC] * 2,
        columns=2,
    )
