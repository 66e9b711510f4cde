"""Which classes are taken for which."""

import numpy as np

NO_ANSWER = -1  # in place of a class id
MOST_PAIRS, MOST_SAMPLES = 10, 4


def confusion(true, predicted, classes):
    """The confusion matrix.

    Args:
        true: int (N,), class ids.
        predicted: int (N,), class ids; `NO_ANSWER` counts in no column.
        classes: number of classes C.

    Returns:
        int64 (C, C): how many images of the class of the row were taken for the class
        of the column.
    """
    from sklearn.metrics import confusion_matrix

    answered = np.asarray(predicted) != NO_ANSWER
    if not answered.any():  # scikit-learn refuses to count nothing
        return np.zeros((classes, classes), np.int64)
    return confusion_matrix(
        np.asarray(true)[answered], np.asarray(predicted)[answered], labels=np.arange(classes)
    )


def confused_pairs(matrix, images=None, most=MOST_PAIRS):
    """The pairs of classes that are confused most often, in one direction.

    Args:
        matrix: int (C, C), as `confusion` gives it.
        images: int (C,), images of each class; default: the sums of the rows.
        most: how many pairs at most.

    Returns:
        [(true id, predicted id, images, share of the true class's images)], the most
        images first, then the largest share, then the smallest ids.
    """
    matrix = np.asarray(matrix)
    images = matrix.sum(axis=1) if images is None else images
    wrong = matrix - np.diag(np.diag(matrix))
    found = [
        (
            int(true),
            int(predicted),
            int(wrong[true, predicted]),
            float(wrong[true, predicted] / images[true]),
        )
        for true, predicted in zip(*np.nonzero(wrong))
    ]
    return sorted(found, key=lambda pair: (-pair[2], -pair[3], *pair[:2]))[:most]


def confusion_order(shares):
    """Orders classes so that those confused with each other stand together.

    Average-linkage clustering (scipy.cluster.hierarchy) on the mean of both directions'
    shares; of two clusters that are joined, the one with the closest pair goes first, so
    that the most confused block begins the order.

    Args:
        shares: float (C, C), each row the shares that a class's images have.

    Returns:
        list of the C class ids.
    """
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    classes = len(shares)
    if classes < 2:
        return list(range(classes))
    distances = 1 - (shares + shares.T) / 2
    np.fill_diagonal(distances, 0)
    clusters = [(np.inf, [number]) for number in range(classes)]  # closest pair, members
    for one, other, distance, _ in linkage(squareform(distances, checks=False), "average"):
        first, second = sorted((clusters[int(one)], clusters[int(other)]), key=lambda c: c[0])
        clusters.append((min(first[0], distance), first[1] + second[1]))
    return clusters[-1][1]
