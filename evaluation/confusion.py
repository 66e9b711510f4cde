"""Which classes are predicted for which: the confusion matrix, its worst pairs, its order."""

import numpy as np

from evaluation.scores import NO_ANSWER

MOST_PAIRS, MOST_SAMPLES = 10, 4


def confusion(true, predicted, classes):
    """The confusion matrix.

    Args:
        true: int (N,), class ids.
        predicted: int (N,), class ids; `NO_ANSWER` counts in no column.
        classes: int, number of classes C.

    Returns:
        int64 (C, C), images by true class (row) and predicted class (column).

    Example:
        >>> confusion([0, 0, 1], [0, 1, 1], 2)
        array([[1, 1],
               [0, 1]])
    """
    from sklearn.metrics import confusion_matrix

    answered = np.asarray(predicted) != NO_ANSWER
    if not answered.any():  # scikit-learn refuses empty arrays
        return np.zeros((classes, classes), np.int64)
    return confusion_matrix(
        np.asarray(true)[answered], np.asarray(predicted)[answered], labels=np.arange(classes)
    )


def confused_pairs(matrix, images=None, most=MOST_PAIRS):
    """The pairs of classes that are confused most often, in one direction.

    Args:
        matrix: int (C, C), a confusion matrix.
        images: int (C,), images of each class; default: the sums of the rows.
        most: int, maximum number of pairs.

    Returns:
        [(true id, predicted id, images, fraction of the true class's images)], the most images
        first, then the largest fraction, then the smallest ids.
    """
    matrix = np.asarray(matrix)
    images = matrix.sum(axis=1) if images is None else images
    errors = matrix - np.diag(np.diag(matrix))
    all_pairs = [
        (
            int(true_id),
            int(predicted_id),
            int(errors[true_id, predicted_id]),
            float(errors[true_id, predicted_id] / images[true_id]),
        )
        for true_id, predicted_id in zip(*np.nonzero(errors))
    ]
    return sorted(all_pairs, key=lambda pair: (-pair[2], -pair[3], *pair[:2]))[:most]


def confusion_order(shares):
    """Orders classes so that those confused with each other are neighbours.

    Average-linkage clustering (scipy.cluster.hierarchy) on the mean of both directions'
    fractions; of two clusters that are joined, the one with the closest pair comes first, so
    that the order begins with the most confused block.

    Args:
        shares: float (C, C), a confusion matrix with each row as fractions of its class's images.

    Returns:
        list of the C class ids.
    """
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    class_count = len(shares)
    if class_count < 2:
        return list(range(class_count))
    distances = 1 - (shares + shares.T) / 2
    np.fill_diagonal(distances, 0)
    clusters = [(np.inf, [class_id]) for class_id in range(class_count)]  # closest pair, members
    joins = linkage(squareform(distances, checks=False), "average")
    for first_cluster, second_cluster, distance, _ in joins:
        joined = (clusters[int(first_cluster)], clusters[int(second_cluster)])
        closer, other = sorted(joined, key=lambda cluster: cluster[0])
        clusters.append((min(closer[0], distance), closer[1] + other[1]))
    return clusters[-1][1]
