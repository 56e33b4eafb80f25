"""Suspicious or not by shape: the released analyzer's two centroids, and the paper's SVM (section IV-E, figure 11)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synthorax.errors import InputError
from synthorax.seeding import derive, generator
from synthorax.shapes.features import FEATURES

MEAN = np.array([25.614, 9.291, 27.070, 0.5243, 186.48, 1.5633, 0.7481, 0.5351, 9.220, 26.025, 5.091, 0.3675])
DEVIATION = np.array([23.144, 4.305, 13.315, 0.3106, 265.43, 0.1702, 0.1602, 0.2217, 7.055, 17.526, 6.859, 0.2051])
SUSPICIOUS_CENTROID = np.array([3.996, 1.582, 2.362, -0.293, 4.051, 0.979, 1.341, 1.450, -0.378, 1.111, -0.742, 0.671])
BENIGN_CENTROID = np.array(
    [-0.190, -0.075, -0.113, 0.014, -0.193, -0.047, -0.064, -0.069, 0.018, -0.053, 0.035, -0.032]
)
"""The released classifier: what it makes z-scores with, in the units of `FEATURES`, and its centroids among them."""

HYPERPARAMETERS = {"svc__C": (0.1, 1, 10, 100), "svc__gamma": (0.001, 0.01, 0.1)}
CLASSIFIER_FOLDS, RESAMPLES = 5, 2000
"""Folds of the cross-validation, and bootstrap resamples of the patients."""


def centroid_distances(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared distances [n, 2] to the suspicious and to the benign centroid, figure 11's axes.

    Args:
        features: float64 [n, 12], in the `alnsb` convention.

    Raises:
        InputError: another shape, or values that are not finite.
    """
    scores = (_checked(features) - MEAN) / DEVIATION
    return ((scores[:, None] - [SUSPICIOUS_CENTROID, BENIGN_CENTROID]) ** 2).sum(2)


def nearest_centroid(features: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each row of features [n, 12] is closer to the suspicious centroid."""
    return np.less(*centroid_distances(features).T)


@dataclass(frozen=True, eq=False)
class SuspicionClassifier:
    """A support vector machine with a radial kernel; `fit_svm` fits one."""

    pipeline: Any

    def decision(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Signed distance [n] to the boundary, in margins, above 0 if suspicious."""
        return self.pipeline.decision_function(features) if len(_checked(features)) else np.empty(0)

    def suspicious(self, features: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether each row of features [n, 12] is suspicious."""
        return self.decision(features) > 0


class Auc(NamedTuple):
    """Area under the ROC curve and its 95 % interval."""

    mean: float
    low: float
    high: float


def fit_svm(
    features: NDArray[np.float64], suspicious: NDArray[np.bool_], groups: ArrayLike | None, seed: int
) -> SuspicionClassifier:
    """The machine of the cost and gamma with the best cross-validated AUC.

    Args:
        features: float64 [n, 12].
        suspicious: bool [n].
        groups: whose nodule each is, [n]; a patient's nodules share a fold. None if each has its own.
        seed: of the folds.

    Raises:
        InputError: values that are not finite, lengths that differ, too few patients of a class.
    """
    # Here, as it takes a second that the centroids do without.
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    folds, _ = _folds(features, suspicious, groups, derive(seed, "choose"))
    # No logarithm of the skewed features first: it moves the AUC on LIDC's nodules by 0.0002.
    pipeline = make_pipeline(StandardScaler(), SVC(class_weight="balanced"))
    search = GridSearchCV(
        pipeline, HYPERPARAMETERS, cv=folds, scoring=lambda fitted, x, y: _in_order(fitted, x, y).mean()
    )
    return SuspicionClassifier(search.fit(features, suspicious).best_estimator_)


def cross_validated_auc(
    features: NDArray[np.float64], suspicious: NDArray[np.bool_], groups: ArrayLike | None, seed: int
) -> Auc:
    """How well `fit_svm`, with its arguments and errors, orders nodules of patients it was not given.

    Nodules are compared within their fold only: the decisions of different machines have no common
    scale. The interval is by bootstrap over patients, with the machines as they are.
    """
    folds, patients = _folds(features, suspicious, groups, derive(seed, "hold out"))
    each = np.ones(patients.max() + 1)
    drawn = generator(seed, "draw patients").multinomial(len(each), each / len(each), RESAMPLES)
    weights = np.vstack([each, drawn])[:, patients]
    ordered, pairs = np.zeros((2, len(weights)))
    for rest, held_out in folds:
        machine = fit_svm(features[rest], suspicious[rest], patients[rest], seed).pipeline
        of = suspicious[held_out]
        positive, negative = weights[:, held_out[of]], weights[:, held_out[~of]]
        ordered += (positive @ _in_order(machine, features[held_out], of) * negative).sum(1)
        pairs += positive.sum(1) * negative.sum(1)
    auc = ordered[pairs > 0] / pairs[pairs > 0]
    return Auc(float(auc[0]), *np.quantile(auc[1:], [0.025, 0.975]).tolist())


def _in_order(pipeline: Any, features: NDArray[np.float64], suspicious: NDArray[np.bool_]) -> NDArray[np.float64]:
    """For every pair [suspicious, benign], 1 if decided in that order, 0 if not, 1/2 if alike; the mean is the AUC."""
    decision = pipeline.decision_function(features)
    return (np.sign(decision[suspicious][:, None] - decision[~suspicious]) + 1) / 2


def _folds(
    features: NDArray[np.float64], suspicious: NDArray[np.bool_], groups: ArrayLike | None, seed: int
) -> tuple[list[tuple[NDArray[np.int64], NDArray[np.int64]]], NDArray[np.int64]]:
    """`CLASSIFIER_FOLDS` folds, or as many as can have both classes each; and whose nodule each is, from 0, [n]."""
    from sklearn.model_selection import StratifiedGroupKFold

    n = len(_checked(features))
    patients = np.unique(np.arange(n) if groups is None else np.asarray(groups), return_inverse=True)[1]
    if suspicious.dtype != np.bool_ or not suspicious.shape == patients.shape == (n,):
        found = f"{suspicious.dtype} {suspicious.shape} and groups {patients.shape}"
        raise InputError("suspicious", found, f"bool ({n},) and groups ({n},)")
    fewest = min(len(np.unique(patients[suspicious == kind])) for kind in (False, True))
    for n_folds in range(min(CLASSIFIER_FOLDS, fewest), 1, -1):
        splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed % 2**32)
        folds = list(splitter.split(features, suspicious, patients))
        if all(len(np.unique(suspicious[held_out])) == 2 for _, held_out in folds):
            return folds, patients
    raise InputError("suspicious", f"a class of {fewest} patients", "enough of each to hold some out")


def _checked(features: NDArray[np.float64]) -> NDArray[np.float64]:
    if features.ndim != 2 or features.shape[1] != len(FEATURES):
        raise InputError("features", f"shape {features.shape}", f"[n, {len(FEATURES)}]")
    if len(odd := np.flatnonzero(~np.isfinite(features).all(1))):
        raise InputError(f"features of nodule {odd[0]}", "a value that is not finite", "finite ones")
    return features
