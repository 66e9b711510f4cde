"""The head of a frozen backbone, solved instead of trained: multinomial logistic regression.

A head that fits the features before all weights learn keeps the first steps from destroying
what the backbone knows (Kumar et al. 2022, "Fine-Tuning can Distort Pretrained Features and
Underperform Out-of-Distribution", section 4).
"""

import numpy as np

# Inverse strength of the L2 penalty on features of unit mean square; between a tenth and ten
# times as much the accuracy on photos is the same (docs/benchmarks.md).
PENALTY_C = 0.1
MAX_ITERATIONS = 500


def solve(features, class_ids, sample_weight, classes, balanced=False):
    """Kernel and bias of the classification layer, by L-BFGS.

    Args:
        features: float32 (N, D).
        class_ids: int (N,), the class of each row, 0 to C-1.
        sample_weight: float32 (N,), 0 or more; rows of weight 0 do not count.
        classes: int, number of classes C.
        balanced: bool, whether each class counts as much as any other, however rare.

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
        C=PENALTY_C, max_iter=MAX_ITERATIONS, class_weight="balanced" if balanced else None
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
