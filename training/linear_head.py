"""The head of a frozen backbone, solved instead of trained: multinomial logistic regression.

A head that fits the features before all weights learn keeps the first steps from destroying
what the backbone knows (Kumar et al. 2022, "Fine-Tuning can Distort Pretrained Features and
Underperform Out-of-Distribution", section 4).
"""

import numpy as np

# Inverse strength of the L2 penalty on features of unit mean square; between a tenth and ten
# times as much the accuracy on photos is the same (docs/benchmarks.md).
PENALTY_C = 0.1
CHOICES_OF_C = (0.001, 0.01, 0.1, 1.0)
FOLDS = 3
MOST_COMPARED = 2000  # photos by which a penalty is chosen: more would say the same and take long
MAX_ITERATIONS = 500


def solve(features, class_ids, sample_weight, classes, balanced=False, folds=None):
    """Kernel and bias of the classification layer, by L-BFGS.

    Args:
        features: float32 (N, D).
        class_ids: int (N,), the class of each row, 0 to C-1.
        sample_weight: float32 (N,), 0 or more; rows of weight 0 do not count.
        classes: int, number of classes C.
        balanced: bool, whether each class counts as much as any other, however rare.
        folds: list of (rows to learn from, rows that judge), by which the penalty is chosen; all
            rows have to count then. None takes `PENALTY_C`.

    Returns:
        (kernel, bias): float32 (D, C) and (C,), for a softmax; None where fewer than two
        classes have rows that count. A class without rows has the bias of the least probable.

    Example:
        >>> kernel, bias = solve(features, class_ids, np.ones(len(features)), classes=6)
        >>> (features @ kernel + bias).argmax(axis=1)
    """
    from sklearn.linear_model import LogisticRegression, LogisticRegressionCV

    counts = sample_weight > 0
    features, class_ids, sample_weight = features[counts], class_ids[counts], sample_weight[counts]
    present = np.unique(class_ids)
    if len(present) < 2:
        return None
    scale = 1 / max(1e-12, float(np.sqrt(np.mean(np.square(features, dtype=np.float64)))))
    settings = {"max_iter": MAX_ITERATIONS, "class_weight": "balanced" if balanced else None}
    regression = LogisticRegression(C=PENALTY_C, **settings)
    if folds:
        regression = LogisticRegressionCV(
            Cs=CHOICES_OF_C,
            cv=folds,
            scoring="neg_log_loss",
            l1_ratios=(0,),
            use_legacy_attributes=False,
            **settings,
        )
    regression.fit(features * np.float32(scale), class_ids, sample_weight)
    weights, intercepts = regression.coef_, regression.intercept_
    if len(present) == 2:  # one row, for the second class against the first
        weights, intercepts = np.r_[-weights, weights] / 2, np.r_[-intercepts, intercepts] / 2
    kernel = np.zeros((features.shape[1], classes), np.float32)
    bias = np.full(classes, intercepts.min(), np.float32)
    kernel[:, present] = weights.T * scale
    bias[present] = intercepts
    return kernel, bias


def make_folds(class_ids, views=1):
    """Divisions of photos by which `solve` chooses its penalty; a photo's views stay together.

    Args:
        class_ids: int (N * V,), first of a view of all N photos, then of another.
        views: int V, rows of the same photo.

    Returns:
        list of (rows to learn from, rows that judge), int arrays; None where a class has too few
        photos.

    Example:
        >>> solve(features, class_ids, weights, classes=6, folds=make_folds(class_ids))
    """
    from sklearn.model_selection import StratifiedKFold

    photo_count = len(class_ids) // views
    rows = np.random.default_rng(0).permutation(photo_count)[:MOST_COMPARED]
    counts = np.bincount(class_ids[rows], minlength=class_ids.max() + 1)
    fold_count = min(FOLDS, int(counts[np.unique(class_ids)].min()))
    if fold_count < 2:
        return None
    folds = StratifiedKFold(fold_count, shuffle=True, random_state=0)
    return [
        (
            np.concatenate([rows[learned] + view * photo_count for view in range(views)]),
            rows[judged],
        )
        for learned, judged in folds.split(rows, class_ids[rows])
    ]
