"""`synthorax study shapes`: the study of shapes, as results.json and a page with the paper's results beside ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console

from synthorax import figures
from synthorax.datasets.lidc import LidcRequest, cached_lidc_shapes
from synthorax.datasets.shapes import ShapeSet
from synthorax.errors import InputError
from synthorax.io.atomic import atomic_file
from synthorax.nodule import BENIGN_UP_TO, MALIGNANT_FROM
from synthorax.report import write_page
from synthorax.seeding import derive
from synthorax.shapes.acceptance import accept
from synthorax.shapes.classification import (
    Auc,
    centroid_distances,
    cross_validated_auc,
    fit_svm,
    nearest_centroid,
)
from synthorax.shapes.features import FEATURES
from synthorax.studies.answers import whether_shapes_are_new
from synthorax.studies.results import RESULTS, TRAININGS, Arm, check_study_folder, machine, write_results
from synthorax.studies.shapes import (
    COMPARISON_SEEDS,
    ORIGINAL_SEEDS,
    RELEASED,
    Plan,
    ShapesComparison,
    ShapeStudy,
    comparison_plans,
    measurable,
)
from synthorax.systems.lung.base_set import to_input
from synthorax.systems.lung.config import LungConfig
from synthorax.systems.lung.system import Lung
from synthorax.training.devices import make_fabric

COMPARISONS: tuple[ShapesComparison, ...] = get_args(ShapesComparison)
CLASSIFIED = 1000
"""Most accepted nodules that are classified and drawn in the plane of the classifier's distances (figure 11)."""
SHOWN_NODULES = 6
"""Number of nodules shown in each picture of the page."""
GREY, RED = "#8a949e", "#a3333d"


@dataclass(frozen=True, eq=False)
class Classified:
    """Results of classifying real and accepted generated nodules as suspicious or benign (section IV-E).

    Attributes:
        real: squared distances of the real nodules to the two centroids, [n, 2].
        generated: the same for generated nodules.
        suspicious: classifier to its shares of suspicious nodules among (real, generated) ones.
        auc: AUC of the SVM on LIDC's malignancy ratings, cross-validated over patients.
    """

    real: NDArray[np.float64]
    generated: NDArray[np.float64]
    suspicious: dict[str, tuple[float, float]]
    auc: Auc


def study_shapes(
    nodules: ShapeSet,
    config: LungConfig,
    out: Path,
    *,
    n_nodules: int | None = None,
    seed: int = 0,
    training_seeds: int = 5,
    samples: int = 10_000,
    compared_samples: int = 2_000,
    compare: Sequence[str] = (),
    plan: Plan | None = None,
    device: str = "auto",
) -> Path:
    """Run the study, or resume it, and write `results.json`, `index.html` and the pictures.

    Args:
        nodules: training nodules.
        config: the model and its training.
        out: folder of the study.
        n_nodules: number of nodules with finite features to draw for training; all by default.
        seed: seed of this draw.
        training_seeds: number of trainings of the main arm.
        samples: number of generated nodules that are measured for each training of the main arm.
        compared_samples: the same for the other arms.
        compare: names of further comparisons, any of `COMPARISONS`.
        plan: the main arm; by default, the configuration without feedback.
        device: device of the networks.

    Returns:
        The page.

    Raises:
        InputError: a number is too small, a comparison is unknown, fewer than two nodules have finite features, or the
            folder holds something else.
    """
    if training_seeds < 1 or min(samples, compared_samples) < 100:
        found = f"{training_seeds} trainings, {min(samples, compared_samples)} samples"
        raise InputError("study", found, "1 training and 100 samples or more")
    if unknown := set(compare) - set(COMPARISONS):
        raise InputError("comparison", repr(min(unknown)), ", ".join(COMPARISONS))
    check_study_folder(out)
    console = Console(stderr=True)
    kept, features = measurable(nodules)
    n_left_out = len(nodules) - len(kept)
    if n_nodules is not None:
        kept, features = measurable(kept.draw(n_nodules, seed))
    fabric = make_fabric(device)
    (out / TRAININGS).mkdir(parents=True, exist_ok=True)
    study = ShapeStudy(kept, features, config, out / TRAININGS, fabric)
    original = kept.fingerprint == ORIGINAL_SEEDS
    of_paper = original and config.layers == "32_3_64_1024"
    plan = plan or Plan("main", config.layers, held_out=True, paper=RELEASED if of_paper else {})
    main, runs = study.run(plan, range(training_seeds), samples, console)
    raw, _ = study.run(Plan("main, not reconnected", plan.layers, reconnected=False), [0], compared_samples, console)
    arms, details = [main, raw], {plan.name: runs}
    compared: dict[str, list[Arm]] = {}
    for name in COMPARISONS:
        if name not in compare:
            continue
        compared[name] = []
        for published in comparison_plans(name, config.layers):
            other = published if original else replace(published, paper={})
            arm, details[other.name] = study.run(other, range(COMPARISON_SEEDS), compared_samples, console)
            compared[name].append(arm)
    console.print("[bold]Pictures, classification, page[/bold]")
    system = study.train(plan, 0)
    base = study.base_acceptance()
    classified = _classify(study, system)
    answer = whether_shapes_are_new(main)
    write_results(
        out / RESULTS,
        "shapes",
        {"fingerprint": kept.fingerprint, "nodules": len(kept), "not_measurable": n_left_out},
        [*arms, *(arm for group in compared.values() for arm in group)],
        answer=answer,
        config=config.model_dump(mode="json"),
        samples={"main": samples, "compared": compared_samples},
        splits={"train": kept.patient_ids},
        base_acceptance=base,
        suspicious=classified.suspicious,
        svm_auc=classified.auc._asdict(),
        paper=RELEASED,
    )
    pictures = _pictures(study, system, main, runs, compared, details, classified)
    for title, figure in pictures.items():
        with atomic_file(out / f"{title.replace(' ', '-')}.png") as file:
            figure.savefig(file, format="png")
    page = out / "index.html"
    write_page(
        page,
        "study_shapes.html",
        answer=answer,
        main=main,
        raw=raw,
        compared=compared,
        base=base,
        classified=classified,
        n_nodules=len(kept),
        n_left_out=n_left_out,
        samples=samples,
        compared_samples=compared_samples,
        config=config,
        machine=machine(),
        pictures=pictures,
    )
    return page


def _classify(study: ShapeStudy, system: Lung) -> Classified:
    """Classify real and accepted nodules with the released classifier and with an SVM on LIDC's ratings."""
    seed = derive(0, "classified")
    sampled = study.sample(system, 2 * CLASSIFIED, seed, True).analysis
    kept = sampled.features[accept(sampled, study.features, seed)][:CLASSIFIED]
    rated, features = measurable(cached_lidc_shapes(LidcRequest()).shapes)
    rating = np.array([record.attributes.malignancy or np.nan for record in rated.records])
    clear = (rating >= MALIGNANT_FROM) | (rating <= BENIGN_UP_TO)
    suspicious = rating[clear] >= MALIGNANT_FROM
    patients = np.array([record.patient_id for record in rated.records])[clear]
    machine = fit_svm(features[clear], suspicious, patients, 0)
    return Classified(
        centroid_distances(study.features),
        centroid_distances(kept),
        {
            "nearest centroid": (nearest_centroid(study.features).mean(), nearest_centroid(kept).mean()),
            "SVM on LIDC's ratings": (machine.suspicious(study.features).mean(), machine.suspicious(kept).mean()),
        },
        cross_validated_auc(features[clear], suspicious, patients, 0),
    )


def _pictures(
    study: ShapeStudy,
    system: Lung,
    main: Arm,
    runs: list[dict[str, Any]],
    compared: dict[str, list[Arm]],
    details: dict[str, list[dict[str, Any]]],
    classified: Classified,
) -> dict[str, Figure]:
    """Draw the paper's figures 2 and 5 to 11, as far as the study's arms allow, and acceptance against novelty."""
    nodules, spacing = study.nodules.occupancy, study.nodules.spacing_mm
    by_size = np.argsort(study.features[:, list(FEATURES).index("f5")])
    shown = by_size[np.linspace(0.2 * len(by_size), len(by_size) - 1, SHOWN_NODULES).astype(int)]
    walk = system.walk(nodules[shown[1]], nodules[shown[3]], SHOWN_NODULES)
    made = system.sample(100, 0)
    accepted = np.flatnonzero(accept(study.analyse(made.fields), study.features, 0))[:SHOWN_NODULES]
    real = [f"real {i}" for i in shown]
    pictures = {
        "figure 2": figures.slices(
            list(to_input(nodules[shown])), spacing, captions=real, colours=[figures.REAL] * SHOWN_NODULES
        ),
        "figure 8": figures.slices(
            list(walk.fields),
            spacing,
            captions=[f"step {i + 1}" for i in range(SHOWN_NODULES)],
            colours=[figures.SYNTHETIC] * SHOWN_NODULES,
        ),
        "figure 9": figures.slices(
            list(made.fields[accepted]),
            spacing,
            captions=[f"new {i}" for i in accepted],
            colours=[figures.SYNTHETIC] * len(accepted),
        ),
        "figure 7": _latents({f"{study.config.latent_size} latent neurons": runs[0]["latents"]}),
        "figure 10": figures.bars(
            {
                "mean of the accepted": runs[0]["feature_mean"],
                "standard deviation": runs[0]["feature_deviation"],
            },
            list(FEATURES),
            [figures.SYNTHETIC, GREY],
            "of the real nodules' = 1",
        ),
        "figure 11": figures.scatter(
            {"accepted": tuple(classified.generated.T), "real": tuple(classified.real.T)},
            [figures.SYNTHETIC, figures.REAL],
            "squared distance to the suspicious centroid",
            "squared distance to the benign centroid",
            diagonal=True,
            logarithmic=True,
        ),
    }
    if sizes := {arm.name: arm for arm in compared.get("sizes", [])}:
        plain = [name for name in sizes if "," not in name]
        pictures["figure 5"] = figures.bars(
            {
                "no feedback": [sizes[name].metrics["score"].mean for name in plain],
                "1 reflection fed back": [sizes[f"{name}, 1 reflection"].metrics["score"].mean for name in plain],
            },
            plain,
            [figures.SYNTHETIC, GREY],
            "Score",
        )
        parts = {"AC": ("acceptance", 1), "10 x MSE": ("mse", 10), "FtDist / 2": ("feature_distance", 0.5)}
        parts["10 x FtMMSE"] = ("feature_mmse", 10)
        pictures["figure 6"] = figures.bars(
            {text: [scale * sizes[n].metrics[m].mean for n in plain] for text, (m, scale) in parts.items()},
            plain,
            [figures.SYNTHETIC, figures.INK, GREY, RED],
            "scaled",
        )
        pictures["figure 7"] = _latents({name: details[name][0]["latents"] for name in (plain[1], plain[-1])})
    everything = [arm for group in compared.values() for arm in group]
    if everything:
        pictures["front"] = _front(main, everything)
    return pictures


def _latents(models: dict[str, list[list[float]]]) -> Figure:
    """Draw two latent coordinates of the real nodules, as in figure 7."""
    colours = [figures.REAL, GREY]
    points = {name: tuple(np.array(latents)[:, [0, -1]].T) for name, latents in models.items()}
    return figures.scatter(points, colours[: len(points)], "first latent neuron", "last latent neuron")


def _front(main: Arm, arms: Sequence[Arm]) -> Figure:
    """Draw acceptance, novelty and error of all arms against each other, ours and the paper's."""
    points = [
        figures.Numbered(arm.name, figures.SYNTHETIC, {name: metric.mean for name, metric in arm.metrics.items()})
        for arm in (main, *arms)
    ]
    theirs = {"released 32_3_64_1024": RELEASED} | {arm.name: arm.paper for arm in arms if arm.paper}
    points += [figures.Numbered(f"paper, {name}", RED, values) for name, values in theirs.items()]
    accepted, novelty = ("acceptance", "AC, share accepted"), ("feature_distance", "FtDist, novelty")
    shown = (0.72, 0.95)
    return figures.numbered(
        points,
        [
            figures.Panel(accepted, novelty),
            figures.Panel(accepted, novelty, shown, (1.4, 2.2)),
            figures.Panel(accepted, ("mse", "MSE x 1000 of learned nodules"), shown, (0.02, 1.0), logarithmic=True),
            figures.Panel(accepted, ("held_out_mse", "MSE x 1000 of nodules held out"), shown),
        ],
    )
