"""Focal loss, and weights for classes of unequal size."""

import math

import keras
import numpy as np
from keras import ops

from common.errors import InputError


@keras.saving.register_keras_serializable(package="toolkit")
class FocalLoss(keras.losses.Loss):
    """Cross-entropy that easy examples add little to.

    The loss of an image is -sum_c w_c y_c (1 - p_c)^gamma log p_c. Lin et al. 2017, "Focal
    Loss for Dense Object Detection", section 3. With gamma 0 and no class weights it is
    Keras's CategoricalCrossentropy. As there, p is divided by its sum and kept within
    epsilon (1e-7) of 0 and 1, which keeps loss and gradients finite. Keras's
    CategoricalFocalCrossentropy, with the weights as its alpha, gives the same numbers; this
    one refuses wrong weights in words, and has no alpha that scales the loss by default.

    Takes labels (B, C), one-hot, smoothed or mixed, and probabilities (B, C), of any
    dtype; computes in float32.

    Args:
        gamma: float, 0 or more; the larger, the less the easy examples count.
        class_weights: list of C float, factors w_c, 0 or more; None for 1 each.
        reduction: str, a reduction of Keras's losses.
        name: str, the loss's name.

    Raises:
        InputError: gamma or a weight that is negative or not finite; on calling, a number
            of weights that is not the number of classes.

    Example:
        >>> loss = FocalLoss(gamma=2.0)(np.float32([[1, 0]]), np.float32([[0.5, 0.5]]))
        >>> round(float(loss), 4)  # 0.5^2 log 2
        0.1733
    """

    def __init__(
        self, gamma=2.0, class_weights=None, reduction="mean_with_sample_weight", name="focal_loss"
    ):
        super().__init__(name=name, reduction=reduction, dtype="float32")
        if not (math.isfinite(gamma) and gamma >= 0):
            raise InputError(f"focal loss: gamma is {gamma}; allowed: 0 or more")
        if class_weights is not None:
            class_weights = [float(weight) for weight in class_weights]
            for class_id, weight in enumerate(class_weights):
                if not (math.isfinite(weight) and weight >= 0):
                    raise InputError(
                        f"focal loss: the weight of class {class_id} is {weight}; "
                        "allowed: 0 or more"
                    )
        self.gamma = gamma
        self.class_weights = class_weights

    def call(self, y_true, y_pred):
        epsilon = keras.config.epsilon()
        # At least epsilon: a row of zeros would make 0 / 0.
        total = ops.maximum(ops.sum(y_pred, axis=-1, keepdims=True), epsilon)
        p = ops.clip(y_pred / total, epsilon, 1 - epsilon)
        terms = -y_true * ops.power(1 - p, self.gamma) * ops.log(p)
        if self.class_weights is not None:
            classes = y_pred.shape[-1]
            if len(self.class_weights) != classes:
                raise InputError(
                    f"focal loss: {len(self.class_weights)} class weights for {classes} "
                    "classes; allowed: one a class"
                )
            terms = terms * ops.convert_to_tensor(self.class_weights, "float32")
        return ops.sum(terms, axis=-1)

    def get_config(self):
        return {**super().get_config(), "gamma": self.gamma, "class_weights": self.class_weights}


def class_weights(counts, how, beta=0.999):
    """Weights that let small classes count as much as large ones, or nearly.

    "balanced": n / (C n_c), with which every class counts the same; as in scikit-learn.
    "effective_number": (1 - beta) / (1 - beta^n_c), scaled; Cui et al. 2019, "Class-Balanced
    Loss Based on Effective Number of Samples", section 3: more images of a class bring ever
    less that is new. Either way the mean weight over the training images is 1, so the
    learning rate keeps its meaning.

    A class without images gets 1 (scikit-learn's compute_class_weight refuses it), and C
    counts the others. No training image has it, and its balanced weight would be infinite; 0
    would make its validation images, and its fraction of smoothed labels, count for nothing.

    Args:
        counts: list of C int, the training images per class.
        how: str, "balanced" or "effective_number".
        beta: float, of "effective_number", from 0 to below 1. Classes above about 1 / (1 - beta)
            images count as equally large: 0.999 tells hundreds from thousands, where the
            paper's 0.9999 is all but "balanced" for classes of hundreds.

    Returns:
        float64 (C,), with a mean of 1 over the training images.

    Raises:
        InputError: a negative count, no image at all, another `how` or `beta`.

    Example:
        >>> class_weights([30, 10], "balanced").round(2).tolist()
        [0.67, 2.0]
    """
    counts = np.asarray(counts, np.float64)
    if counts.ndim != 1 or not np.all(counts >= 0) or not counts.sum() > 0:
        raise InputError(
            f"class weights: the images per class are {counts.tolist()}; allowed: a list of "
            "numbers from 0, not all of them 0"
        )
    if not 0 <= beta < 1:
        raise InputError(f"class weights: beta is {beta}; allowed: from 0 to below 1")
    has_images = counts > 0
    present = counts[has_images]
    if how == "balanced":
        raw = 1 / present
    elif how == "effective_number":
        raw = (1 - beta) / (1 - np.power(beta, present))
    else:
        raise InputError(f"class weights: {how!r}; allowed: balanced, effective_number")
    weights = np.ones(len(counts))
    weights[has_images] = raw * present.sum() / (raw * present).sum()
    return weights
