"""`synthorax study false-alarms`: the study of false alarms in whole chests, as results.json and a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from synthorax.datasets.store import Store
from synthorax.figures import forest
from synthorax.makers import Maker
from synthorax.report import write_page
from synthorax.studies.alarm_arms import CORNERS, HARD, PASTED_ARM
from synthorax.studies.alarm_figures import ALARMS, AUC_CHESTS, FIGURES, FOUND
from synthorax.studies.answers import SURE, says_nothing
from synthorax.studies.chest_places import FROM_MASS_MM, MASS_MM
from synthorax.studies.false_alarms import AlarmOutcome, false_alarm_study
from synthorax.studies.results import (
    LEAST_TRAININGS,
    RESULTS,
    TRAININGS,
    Interval,
    check_study_folder,
    data_facts,
    machine,
    write_results,
)
from synthorax.studies.trials import Study, check_trainings
from synthorax.tasks.config import TaskConfig
from synthorax.tasks.scanning import MOST_MARKS


def study_false_alarms(
    store: Store,
    chests: Store,
    config: TaskConfig,
    out: Path,
    *,
    injectors: Sequence[Maker] = (),
    erasers: Sequence[Maker] = (),
    trainings: int = 3,
    seed: int = 0,
    device: str = "auto",
) -> tuple[Path, AlarmOutcome]:
    """Train and measure every arm. A call resumes where an earlier one stopped.

    Args:
        store: nodules in cubes.
        chests: whole chests.
        config: the detector and its training.
        out: folder of the study.
        injectors, erasers: makers that have arms of their own.
        trainings: number of trainings of each arm.
        seed: seed of the first training; the others have the following integers.
        device: device of the networks.

    Returns:
        The page, with `results.json` beside it, and the results.

    Raises:
        InputError: see `false_alarm_study`; or the folder holds something else.
    """
    check_trainings(trainings)
    check_study_folder(out)
    study = Study(store, out / TRAININGS, range(seed, seed + trainings), device)
    outcome = false_alarm_study(study, chests, config, injectors, erasers)
    answer = alarms_answer(outcome)
    write_results(
        out / RESULTS,
        "false-alarms",
        data_facts(store, chests=chests.fingerprint),
        outcome.arms,
        answer=answer,
        counts=outcome.counts,
        notes=outcome.notes,
        models=outcome.models,
        drawn=outcome.drawn,
        splits=store.splits,
        chest_splits=chests.splits,
        config=config.model_dump(mode="json"),
    )
    page = out / "index.html"
    write_page(
        page,
        "study_false_alarms.html",
        data_note=". ".join(filter(None, (store.note, chests.note))),
        answer=answer,
        outcome=outcome,
        figures=FIGURES,
        alarms=ALARMS,
        found=FOUND,
        reference=HARD,
        mass_mm=MASS_MM,
        from_mass_mm=FROM_MASS_MM,
        most_marks=MOST_MARKS,
        pictures=[fewer_alarms(outcome, figure) for figure in (ALARMS, AUC_CHESTS)],
        trainings=trainings,
        least_trainings=LEAST_TRAININGS,
        size=" x ".join(map(str, config.size)),
        machine=machine(),
    )
    return page, outcome


def alarms_answer(outcome: AlarmOutcome) -> str:
    """Return which synthetic nodules changed the number of false alarms, the answer to the page's title."""
    arms = {arm.name: arm for arm in outcome.arms}
    auc = arms[HARD].figures[AUC_CHESTS]
    if nothing := says_nothing({HARD: Interval(auc.value, auc.low, auc.high)}):
        return nothing
    alarms = arms[HARD].figures[ALARMS]
    beside = f"{alarms.value:.1f} a chest ({alarms.low:.1f} to {alarms.high:.1f})"
    reached = f"“{HARD}” has {beside} at {FOUND:.0%} of the nodules found."
    own = [arm.against[ALARMS] for name, arm in arms.items() if name not in (CORNERS, HARD, PASTED_ARM) and arm.against]
    if own and all(test.p_holm is None for test in own):
        low, high = min(test.low for test in own), max(test.high for test in own)
        return (
            f"Not known: differences in false alarms from “{HARD}” lie within {low:+.1f} to {high:+.1f} a chest, and "
            f"fewer than {LEAST_TRAININGS} trainings of each arm give no p values. {reached}"
        )
    sure = [test for test in own if test.p_holm is not None and test.p_holm < SURE]
    said = [
        f"{names} {word} the false alarms of “{HARD}”"
        for word, sign in (("lowered", -1), ("raised", 1))
        if (names := ", ".join(f"“{t.a}” ({t.difference:+.1f} a chest)" for t in sure if t.difference * sign > 0))
    ]
    changed = "; ".join(said) or f"None is shown to: no arm differs significantly from “{HARD}” in false alarms"
    return f"{changed}, p < {SURE:g} after correction. {reached}"


def fewer_alarms(outcome: AlarmOutcome, figure: str) -> Figure:
    """Draw the difference in a measure of each arm from the reference, with its interval."""
    rows = {
        arm.name: (arm.against[figure].difference, arm.against[figure].low, arm.against[figure].high)
        for arm in outcome.arms
        if arm.against
    }
    return forest(rows, f"{figure} less that of “{HARD}”")
