"""Classifiers of suspicious nodules by shape: the released analyzer's centroids, and the SVM of LuNG's paper, IV-E."""

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
"""The released classifier: mean and deviation of z-scores in the units of `FEATURES`, and its centroids in z-scores."""

HYPERPARAMETERS = {"svc__C": (0.1, 1, 10, 100), "svc__gamma": (0.001, 0.01, 0.1)}
"""Values of the SVM's cost and gamma that `fit_svm` tries."""
CLASSIFIER_FOLDS, RESAMPLES = 5, 2000
"""Folds of the cross-validation, and bootstrap resamples of the patients."""


def centroid_distances(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the squared distances to the suspicious and to the benign centroid, the axes of figure 11 of LuNG's paper.

    Args:
        features: float64 [n, 12], in the `alnsb` convention.

    Returns:
        [n, 2].

    Raises:
        InputError: features have another shape, or are not finite.
    """
    scores = (_checked(features) - MEAN) / DEVIATION
    return ((scores[:, None] - [SUSPICIOUS_CENTROID, BENIGN_CENTROID]) ** 2).sum(2)


def nearest_centroid(features: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return whether each row of features [n, 12] is closer to the suspicious centroid, bool [n]."""
    return np.less(*centroid_distances(features).T)


@dataclass(frozen=True, eq=False)
class SuspicionClassifier:
    """A support vector machine (SVM) with a radial kernel, as `fit_svm` fits it."""

    pipeline: Any

    def decision(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the signed distance [n] of features [n, 12] to the boundary, in margins; above 0 is suspicious."""
        return self.pipeline.decision_function(features) if len(_checked(features)) else np.empty(0)

    def suspicious(self, features: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return whether each row of features [n, 12] is suspicious, bool [n]."""
        return self.decision(features) > 0


class Auc(NamedTuple):
    """Area under the ROC curve and its 95 % interval."""

    mean: float
    low: float
    high: float


def fit_svm(
    features: NDArray[np.float64], suspicious: NDArray[np.bool_], groups: ArrayLike | None, seed: int
) -> SuspicionClassifier:
    """Fit an SVM with the cost and gamma (`HYPERPARAMETERS`) of the best cross-validated AUC.

    Args:
        features: float64 [n, 12].
        suspicious: bool [n].
        groups: patient of each nodule, [n]; nodules of one patient share a fold. None if each has its own patient.
        seed: seed of the folds.

    Raises:
        InputError: features are not finite, lengths differ, or a class has too few patients.
    """
    # Importing scikit-learn takes a second, and the centroids do without it.
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    folds, _ = _folds(features, suspicious, groups, derive(seed, "choose"))
    # Taking the logarithm of skewed features changes the AUC on LIDC's nodules by 0.0002 only.
    pipeline = make_pipeline(StandardScaler(), SVC(class_weight="balanced"))
    search = GridSearchCV(
        pipeline, HYPERPARAMETERS, cv=folds, scoring=lambda fitted, x, y: _in_order(fitted, x, y).mean()
    )
    return SuspicionClassifier(search.fit(features, suspicious).best_estimator_)


def cross_validated_auc(
    features: NDArray[np.float64], suspicious: NDArray[np.bool_], groups: ArrayLike | None, seed: int
) -> Auc:
    """Measure the AUC of `fit_svm` on held-out patients; arguments and errors as there.

    Nodules are compared within their fold only, because the SVMs of different folds have no common scale. The interval
    is a bootstrap over patients, without fitting anew.
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
    """1 for a pair [suspicious, benign] in the right order, else 0, 0.5 for a tie; the AUC is their mean."""
    decision = pipeline.decision_function(features)
    return (np.sign(decision[suspicious][:, None] - decision[~suspicious]) + 1) / 2


def _folds(
    features: NDArray[np.float64], suspicious: NDArray[np.bool_], groups: ArrayLike | None, seed: int
) -> tuple[list[tuple[NDArray[np.int64], NDArray[np.int64]]], NDArray[np.int64]]:
    """Folds, and the patient of each nodule as a number from 0, [n].

    There are `CLASSIFIER_FOLDS` folds, or fewer if not all of them would have both classes.
    """
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
    raise InputError(
        "suspicious", f"a class with {fewest} patients", "2 or more patients of each class, who can be split into folds"
    )


def _checked(features: NDArray[np.float64]) -> NDArray[np.float64]:
    if features.ndim != 2 or features.shape[1] != len(FEATURES):
        raise InputError("features", f"shape {features.shape}", f"[n, {len(FEATURES)}]")
    if len(odd := np.flatnonzero(~np.isfinite(features).all(1))):
        raise InputError(f"features of nodule {odd[0]}", "a value that is not finite", "finite values")
    return features
