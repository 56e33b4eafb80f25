"""The first sentences of a study's page: what the study says about its title, or why it says nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Protocol

from synthorax.metrics.estimates import Estimate
from synthorax.screen import quantity
from synthorax.studies.results import LEAST_TRAININGS, Arm, Interval

SURE = 0.05
"""p value, corrected for all comparisons, below which a difference counts as sure."""
CHANCE = 0.5
"""AUC of a guess."""
FAR = 3.0
"""Samples are called far from real if the interval of their KID lies above this times the upper ends of the intervals
of real and rendered nodules."""


class Compared(Protocol):
    """A comparison of the AUCs of two arms, such as `results.Test`."""

    @property
    def a(self) -> str:
        """Name of the arm with synthetic nodules."""
        ...

    @property
    def b(self) -> str:
        """Name of the arm without them."""
        ...

    @property
    def difference(self) -> float:
        """AUC of a less that of b."""
        ...

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval."""
        ...

    @property
    def high(self) -> float:
        """Upper end of the 95 % interval."""
        ...

    @property
    def p_holm(self) -> float | None:
        """Corrected p value; None with too few trainings."""
        ...


def whether_it_helps(tests: Sequence[Compared], arms: Sequence[Arm]) -> str:
    """Return whether synthetic nodules beside real ones helped, as one or two sentences.

    Args:
        tests: comparisons of the AUCs of arms with synthetic nodules and of the same arms without them.
        arms: the study's arms, whose measure `auc` tells whether an arm without synthetic nodules has learned anything.
    """
    if not tests:
        return "Not known: no arm has synthetic nodules beside real ones."
    if nothing := says_nothing(_baselines(tests, arms)):
        return nothing
    baselines = list(dict.fromkeys(test.b for test in tests))
    low, high = min(t.low for t in tests), max(t.high for t in tests)
    named, without = ", ".join(dict.fromkeys(f"“{t.a}”" for t in tests)), " or ".join(f"“{b}”" for b in baselines)
    if all(t.p_holm is None for t in tests):
        return (
            f"Not known: differences in AUC of {named} from {without} lie within {low:+.3f} to {high:+.3f}, and fewer "
            f"than {LEAST_TRAININGS} trainings of each arm give no p values."
        )
    sure = [t for t in tests if t.p_holm is not None and t.p_holm < SURE]
    better, worse = ([t.a for t in sure if t.difference * sign > 0] for sign in (1, -1))
    if not sure:
        return (
            f"Not shown: none of {len(tests)} arms with synthetic nodules beside real ones has an AUC that differs "
            f"significantly from that of {without} (95 % intervals "
            f"of the differences within {low:+.3f} to {high:+.3f})."
        )
    parts = [f"{', '.join(names)}: a {word} AUC" for names, word in ((better, "higher"), (worse, "lower")) if names]
    head = "Yes" if not worse else "No" if not better else "It depends"
    return (
        f"{head}: {'; '.join(parts)} than {without}, p < {SURE:g} after correction for all comparisons. {_sizes(sure)}"
    )


def says_nothing(baselines: Mapping[str, Interval]) -> str:
    """Return that a study says nothing, if an arm without synthetic nodules is not better than chance; else nothing.

    Args:
        baselines: arm without synthetic nodules to its AUC.
    """
    if guesses := _guesses(baselines, "baseline"):
        more = "train longer, as with --set steps=N, or on more patients"
        return f"This study says nothing about synthetic nodules: {guesses}; {more}."
    return ""


def which_score_better(tests: Sequence[Compared], arms: Sequence[Arm], patients: int) -> str:
    """Return which arms have another AUC than the reference, as one or two sentences; the arms' data are not known.

    Args:
        tests: comparisons of the AUCs of arms with that of the reference.
        arms: all arms.
        patients: number of patients whose cases were scored.
    """
    if guesses := _guesses(_baselines(tests, arms), "reference"):
        return f"The scores say nothing: with {quantity(patients, 'patient')}, {guesses}; score more patients."
    reference, low, high = tests[0].b, min(t.low for t in tests), max(t.high for t in tests)
    if all(t.p_holm is None for t in tests):
        return (
            f"Not known: differences in AUC from “{reference}” lie within {low:+.3f} to {high:+.3f}, and fewer than "
            f"{LEAST_TRAININGS} trainings of each arm give no p values."
        )
    sure = [t for t in tests if t.p_holm is not None and t.p_holm < SURE]
    parts = [
        f"{names} a {word} AUC than “{reference}”"
        for word, sign in (("higher", 1), ("lower", -1))
        if (names := _with_verb([t.a for t in sure if t.difference * sign > 0]))
    ]
    if not parts:
        return (
            f"No arm has an AUC that differs significantly from that of “{reference}” (95 % "
            f"intervals of the differences within {low:+.3f} to {high:+.3f})."
        )
    return f"{'; '.join(parts)}, p < {SURE:g} after correction for all comparisons. {_sizes(sure)}"


def about_p(trainings: int, corrected_for: str) -> str:
    """Return what a page says below its comparisons of arms about their intervals and p values.

    Args:
        trainings: trainings of each arm.
        corrected_for: what the p values are corrected for, such as "the number of pairs".
    """
    over = (
        "Intervals and p are by Student's t over patients and trainings"
        if trainings > 1
        else "Intervals resample test patients"
    )
    least = f"left out with fewer than {LEAST_TRAININGS} trainings of each arm"
    return f"{over}. p is corrected for {corrected_for} by Holm's method, and {least}."


def _sizes(sure: Sequence[Compared]) -> str:
    """Return the differences in AUC with their intervals, as a sentence."""
    said = ", ".join(f"“{t.a}” {t.difference:+.3f} ({t.low:+.3f} to {t.high:+.3f})" for t in sure)
    return f"{'Differences' if len(sure) > 1 else 'Difference'} (95 % interval): {said}."


def _with_verb(names: Sequence[str]) -> str:
    """Return the names of arms with the verb to have; nothing for no name."""
    listed = ", ".join(f"“{name}”" for name in names)
    return f"{listed} {'have' if len(names) > 1 else 'has'}" if names else ""


def _baselines(tests: Sequence[Compared], arms: Sequence[Arm]) -> dict[str, Interval]:
    """Return the AUC of each arm with which others are compared."""
    aucs = {arm.name: arm.metrics["auc"] for arm in arms if "auc" in arm.metrics}
    return {test.b: aucs[test.b] for test in tests if test.b in aucs}


def _guesses(baselines: Mapping[str, Interval], word: str) -> str:
    """Return which of these AUCs, each of what `word` says, are not better than chance; nothing if all are."""
    return "; ".join(f"the {word} {_chance(name, auc)}" for name, auc in baselines.items() if _is_chance(auc))


def _is_chance(auc: Interval) -> bool:
    """Whether an AUC is that of a guess or lower, or its interval includes a guess."""
    return (auc.mean if auc.low is None else auc.low) <= CHANCE


def _chance(name: str, auc: Interval) -> str:
    ends = "" if auc.low is None or auc.high is None else f", 95 % interval {auc.low:.3f} to {auc.high:.3f}"
    return f"“{name}” is not significantly better than chance (AUC {auc.mean:.3f}{ends})"


def how_real(
    kid: Mapping[str, Interval], less: Mapping[str, Estimate], maker: str, real: str, rendered: str, samples: int
) -> str:
    """Return how close a maker's samples are to real nodules, as a sentence. Only intervals decide.

    Args:
        kid: set of samples to its KID x 1000 from the real nodules of training patients.
        less: other set of samples to the KID x 1000 of the maker's set less that of this set, with its interval.
        maker: name of the maker's set.
        real: name of the set of real nodules of other patients.
        rendered: name of the set of rendered nodules.
        samples: number of patches in a set.
    """
    if maker not in kid or not isfinite(kid[maker].mean):
        return "Likeness is not known: too few samples were measured."
    words = {real: "real nodules of other patients", rendered: "rendered nodules"}
    others = {name: kid[name] for name in words if name in kid and name != maker}
    nearer = [words[name] for name in others if name in less and less[name].high < 0]
    farther = [words[name] for name in others if name in less and less[name].low > 0]
    unknown = [words[name] for name in others if words[name] not in (*nearer, *farther)]
    if words[real] in nearer:
        head = "As close to real as real nodules of other patients"
    elif not nearer and not farther:
        too_few = f"{samples} patches of each kind are too few to tell their KID from that of {' or '.join(unknown)}"
        return f"Not known: {too_few}. {_kids(kid[maker], others, words)}"
    elif farther and not nearer and not unknown and _is_far(kid[maker], others.values()):
        head = "Far from real"
    else:
        parts = [("closer to real than", nearer), ("less close to real than", farther)]
        head = ", ".join(f"{word} {' or '.join(names)}" for word, names in parts if names)
        head = head[0].upper() + head[1:]
        if unknown:
            head += f"; {samples} patches of each kind are too few to tell their KID from that of {unknown[0]}"
    return f"{head}. {_kids(kid[maker], others, words)}"


def _is_far(own: Interval, others: Iterable[Interval]) -> bool:
    """Whether a KID is surely above `FAR` times the others."""
    highest = max((other.mean if other.high is None else other.high for other in others), default=0.0)
    return own.low is not None and own.low > FAR * max(highest, 0.0)


def _kids(own: Interval, others: Mapping[str, Interval], words: Mapping[str, str]) -> str:
    """Return the KID of a maker's samples and of other sets, each with its 95 % interval, as a sentence."""
    have = " and ".join(f"{_short_with_ends(value)} for {words[name]}" for name, value in others.items())
    return f"KID x 1000 is {_short_with_ends(own)}{f'; it is {have}' if have else ''} (95 % intervals)."


def whether_followed(made: Interval | None, real: Interval | None) -> str:
    """Return whether a maker's nodules have the requested diameters, as a sentence.

    Args:
        made: rank correlation of requested and measured diameters; None if the maker takes no diameter.
        real: rank correlation of stated and measured diameters of real nodules.
    """
    if made is None:
        return "No diameter can be requested of this maker."
    if not isfinite(made.mean):
        return "Whether the requested diameter is followed is not known."
    bound = f"; that of real nodules is {real.mean:.2f}" if real is not None and isfinite(real.mean) else ""
    followed = (made.mean if made.low is None else made.low) > 0
    if not followed and made.high is not None and made.high > (real.mean / 2 if real is not None else 0):
        return f"Whether the requested diameter is followed is not known (rank correlation {_with_ends(made)}{bound})."
    weakly = followed and real is not None and made.mean < real.mean / 2
    word = "is followed weakly" if weakly else "is followed" if followed else "is not followed"
    return f"The requested diameter {word} (rank correlation {made.mean:.2f}{bound})."


def what_real_alone_gives(arms: Mapping[str, Sequence[Arm]]) -> str:
    """Return what networks reach on real patches alone, and trivial methods without a network, as a sentence.

    Args:
        arms: title of each task to its arms, the network first and the trivial method second.
    """
    said = []
    for task, (network, trivial, *_) in arms.items():
        measure, word = ("dice", "Dice") if "dice" in network.metrics else ("auc", "AUC")
        reached = f"{word} {_with_ends(network.metrics[measure])} by the network"
        said.append(f"{task}: {reached}, {_with_ends(trivial.metrics[measure])} by {trivial.name}, without a network.")
    return " ".join(said)


def whether_shapes_are_new(main: Arm) -> str:
    """Return whether a generator's shapes are accepted as nodules, and differ from the real ones, as two sentences.

    Args:
        main: the main arm of the study of shapes, with the measures `acceptance`, `copies` and `feature_distance`.
    """
    accepted, copies, distance = (main.metrics[name] for name in ("acceptance", "copies", "feature_distance"))
    return (
        f"The analyzer accepts {100 * accepted.mean:.1f} % of the generated nodules as like the real ones. "
        f"{100 * copies.mean:.1f} % are copies of a training sample; from the closest real nodule they differ by "
        f"{distance.mean:.2f} standard deviations of the 12 features."
    )


def _with_ends(value: Interval) -> str:
    ends = "" if value.low is None or value.high is None else f" ({value.low:.3f} to {value.high:.3f})"
    return f"{value.mean:.3f}{ends}"


def _short_with_ends(value: Interval) -> str:
    ends = "" if value.low is None or value.high is None else f" ({_short(value.low)} to {_short(value.high)})"
    return f"{_short(value.mean)}{ends}"


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
