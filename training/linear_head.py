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


def solve(features, class_ids, sample_weight, classes, balanced=False, penalty_c=PENALTY_C):
    """Kernel and bias of the classification layer, by L-BFGS.

    Args:
        features: float32 (N, D).
        class_ids: int (N,), the class of each row, 0 to C-1.
        sample_weight: float32 (N,), 0 or more; rows of weight 0 do not count.
        classes: int, number of classes C.
        balanced: bool, whether each class counts as much as any other, however rare.
        penalty_c: float, inverse strength of the L2 penalty on features of unit mean square.

    Returns:
        (kernel, bias): float32 (D, C) and (C,), for a softmax; None where fewer than two
        classes have rows that count. A class without rows has the bias of the least probable.

    Example:
        >>> kernel, bias = solve(features, class_ids, np.ones(len(features)), classes=6)
        >>> (features @ kernel + bias).argmax(axis=1)
    """
    from sklearn.linear_model import LogisticRegression

    counts = sample_weight > 0
    features, class_ids, sample_weight = features[counts], class_ids[counts], sample_weight[counts]
    present = np.unique(class_ids)
    if len(present) < 2:
        return None
    scale = 1 / max(1e-12, float(np.sqrt(np.mean(np.square(features, dtype=np.float64)))))
    regression = LogisticRegression(
        C=penalty_c, max_iter=MAX_ITERATIONS, class_weight="balanced" if balanced else None
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


def choose_penalty(features, class_ids, views=1, balanced=False):
    """The penalty with the smallest loss in cross-validation; a photo's views stay together.

    Args:
        features: float32 (N * V, D), first a view of all N photos, then another.
        class_ids: int (N * V,), 0 to C-1.
        views: int V, rows of the same photo.
        balanced: bool, as of `solve`.

    Returns:
        float, one of `CHOICES_OF_C`; `PENALTY_C` where too few photos can be compared.

    Example:
        >>> solve(features, class_ids, weights, 6, penalty_c=choose_penalty(features, class_ids))
    """
    from sklearn.metrics import log_loss
    from sklearn.model_selection import StratifiedKFold

    photo_count = len(class_ids) // views
    own_classes = class_ids[:photo_count]
    counts = np.bincount(own_classes)
    fold_count = min(FOLDS, int(counts[counts > 0].min()))
    if fold_count < 2 or (counts > 0).sum() < 2:
        return PENALTY_C
    rows = np.random.default_rng(0).permutation(photo_count)[:MOST_COMPARED]
    losses = np.zeros(len(CHOICES_OF_C))
    classes = len(counts)
    folds = StratifiedKFold(fold_count, shuffle=True, random_state=0)
    for learned, judged in folds.split(rows, own_classes[rows]):
        learned_rows = np.concatenate([rows[learned] + view * photo_count for view in range(views)])
        ones = np.ones(len(learned_rows), np.float32)
        data = features[learned_rows], class_ids[learned_rows], ones, classes, balanced
        for position, penalty_c in enumerate(CHOICES_OF_C):
            kernel, bias = solve(*data, penalty_c)
            logits = features[rows[judged]] @ kernel + bias
            probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
            probabilities /= probabilities.sum(axis=1, keepdims=True)
            losses[position] += log_loss(
                own_classes[rows[judged]], probabilities, labels=np.arange(classes), normalize=False
            )
    return CHOICES_OF_C[int(np.argmin(losses))]
