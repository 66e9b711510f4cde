"""Which score tells a class that was never seen? Each class of a data set is left out once.

    python -m benchmarks.unseen --data DIR [--per_class 80] [--seeds 10] [--backbone NAME]

DIR holds one folder of photos per class. A linear head is solved on the frozen features of some
photos of the other classes; all further photos and those of the class left out are scored. The
area under the ROC curve is the probability that an unseen photo has the higher score of the two.

max_probability  1 minus the largest probability (Hendrycks and Gimpel 2017), which needs nothing
                 but the answer: what `calibrate` sets its thresholds on
energy           minus the log-sum-exp of the logits (Liu et al. 2020)
nearest          distance to the nearest photo learned from, 1 - cosine (Sun et al. 2022, k = 1)
fifth_nearest    the same to the fifth nearest
prototype        distance to the nearest class mean, 1 - cosine
mahalanobis      distance to the nearest class mean with a shared covariance (Lee et al. 2018), of
                 features of unit length, shrunk (OAS)
"""

import argparse
import json
import os
import tempfile
from collections import defaultdict

import numpy as np

SCORES = (*("max_probability", "energy", "nearest", "fifth_nearest"), *("prototype", "mahalanobis"))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with one folder of photos per class")
    parser.add_argument("--per_class", type=int, default=80)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--backbone", default="EfficientNetLite0")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(argv)
    class_names, class_ids, features = read_features(asked.data, asked.backbone)
    areas = defaultdict(lambda: defaultdict(list))
    for left_out in range(len(class_names)):
        for seed in range(asked.seeds):
            found = measure(features, class_ids, left_out, asked.per_class, seed)
            for name, area in found.items():
                areas[name][class_names[left_out]].append(area)
    result = {
        name: summarize(by_class, areas["max_probability"]) for name, by_class in areas.items()
    }
    if asked.json:
        print(json.dumps(result))
        return
    for name, row in result.items():
        low, high = row["difference_interval"]
        by_class = "  ".join(f"{one} {area:.3f}" for one, area in row["classes"].items())
        print(f"{name:<16} {row['mean']:.3f}  {row['difference']:+.3f} ({low:+.3f} to {high:+.3f})")
        print(f"{'':<16} {by_class}")


def read_features(folder, backbone):
    """(class names, class ids (N,), features (N, D)) of the photos in a folder."""
    from data.image_files import walk_images
    from prediction.embedding import embed
    from prediction.feature_extractor import FeatureExtractor

    paths = walk_images(folder)
    with tempfile.TemporaryDirectory() as scratch:
        extractor = FeatureExtractor.from_backbone(backbone)
        content = embed(extractor, paths, os.path.join(scratch, "features.npz"), workers=2).content
        features = np.array(content.features, np.float32)
        names = [os.path.basename(os.path.dirname(path)) for path in content.paths]
    class_names = sorted(set(names))
    return class_names, np.array([class_names.index(name) for name in names]), features


def measure(features, class_ids, left_out, per_class, seed):
    """dict of score -> area under the ROC curve, for one class left out and one draw of photos."""
    from sklearn.metrics import roc_auc_score

    generator = np.random.default_rng(seed)
    others = [one for one in np.unique(class_ids) if one != left_out]
    learned = np.concatenate(
        [generator.permutation(np.flatnonzero(class_ids == one))[:per_class] for one in others]
    )
    seen = np.setdiff1d(np.flatnonzero(class_ids != left_out), learned)
    judged = np.concatenate([seen, np.flatnonzero(class_ids == left_out)])
    own_ids = np.searchsorted(others, class_ids[learned])
    rows = scores(features[learned], own_ids, features[judged])
    is_unseen = class_ids[judged] == left_out
    return {name: float(roc_auc_score(is_unseen, row)) for name, row in rows.items()}


def scores(learned, class_ids, judged):
    """dict of score -> float (M,), higher for what was probably never seen."""
    from scipy.special import logsumexp
    from sklearn.covariance import OAS

    from common.nearest import unit_rows
    from training import linear_head

    classes = class_ids.max() + 1
    kernel, bias = linear_head.solve(learned, class_ids, np.ones(len(learned), np.float32), classes)
    logits = judged @ kernel + bias
    units, judged_units = unit_rows(learned), unit_rows(judged)
    distances = np.sort(1 - judged_units @ units.T, axis=1)
    means = np.stack([units[class_ids == one].mean(axis=0) for one in range(classes)])
    inverse = OAS().fit(units - means[class_ids]).precision_
    differences = judged_units[:, None] - means
    squares = np.einsum("mcd,mcd->mc", differences @ inverse, differences)
    values = (
        1 - np.exp(logits.max(axis=1) - logsumexp(logits, axis=1)),
        -logsumexp(logits, axis=1),
        distances[:, 0],
        distances[:, 4],
        1 - (judged_units @ unit_rows(means).T).max(axis=1),
        squares.min(axis=1),
    )
    return dict(zip(SCORES, values, strict=True))


def summarize(by_class, reference):
    """Mean over the classes, and its difference to the reference with a 95 % interval.

    The classes are drawn again for the interval: another data set would have other ones.
    """
    means = {name: float(np.mean(areas)) for name, areas in by_class.items()}
    differences = np.array([means[name] - np.mean(reference[name]) for name in means])
    drawn = np.random.default_rng(0).integers(0, len(differences), (10_000, len(differences)))
    low, high = np.percentile(differences[drawn].mean(axis=1), [2.5, 97.5])
    return {
        "mean": float(np.mean(list(means.values()))),
        "difference": float(differences.mean()),
        "difference_interval": (float(low), float(high)),
        "classes": means,
    }


if __name__ == "__main__":
    main()
