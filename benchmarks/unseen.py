"""Which score tells a class that was never seen? Classes of a data set are left out.

    python -m benchmarks.unseen --data DIR [--per_class 80] [--seeds 10] [--backbone NAME]
    python -m benchmarks.unseen --data DIR --trained [--left_out 8,9] [--options "--epochs 24"]

DIR holds labelled photos in any layout. Each class is left out once, or those of --left_out
together. All photos not learned from are scored; the area under the ROC curve is the probability
that an unseen photo has the higher score of the two, and beside it stands the fraction of unseen
photos that is found where 5 % of the seen ones are called unseen, too.

Without --trained, a linear head is solved on the frozen features:

max_probability  1 minus the largest probability (Hendrycks and Gimpel 2017), which needs nothing
                 but the answer: what `calibrate` sets its thresholds on
energy           minus the log-sum-exp of the logits (Liu et al. 2020)
nearest          distance to the nearest photo learned from, 1 - cosine (Sun et al. 2022, k = 1)
fifth_nearest    the same to the fifth nearest
prototype        distance to the nearest class mean, 1 - cosine
mahalanobis      distance to the nearest class mean with a shared covariance (Lee et al. 2018), of
                 features of unit length, shrunk (OAS)
centers          distance to the nearest of ten k-means centers per class, 1 - cosine

With --trained, `train` does all of it with its defaults and --options, and the exported model
answers: max_probability; centers, of its joint features; and familiarity, the sum of the two,
standardized by the seen photos, by which a calibrated model calls an image unlike anything seen.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict

import numpy as np

from benchmarks.inference import ROOT

FALSE_ALARMS = 0.05  # at which the fraction found is told


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="labelled photos")
    parser.add_argument("--per_class", type=int, default=80, help="photos to learn from")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--backbone", default="EfficientNetLite0", help="for features or `train`")
    parser.add_argument("--trained", action="store_true", help="ask runs of `train`")
    parser.add_argument("--left_out", help="classes to leave out together, separated by commas")
    parser.add_argument("--options", default="", help="further options of `train`")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(argv)
    paths, class_ids, class_names = read_photos(asked.data)
    features = None if asked.trained else compute_features(paths, asked.backbone)
    results = defaultdict(lambda: defaultdict(list))
    for name in [asked.left_out] if asked.left_out else class_names:
        is_unseen = np.isin(class_ids, [class_names.index(one) for one in name.split(",")])
        for seed in range(asked.seeds):
            learned = draw(class_ids, is_unseen, asked.per_class, seed)
            judged = np.setdiff1d(np.arange(len(paths)), learned)
            if asked.trained:
                options = (
                    "--backbone",
                    asked.backbone,
                    "--seed",
                    str(seed),
                    *asked.options.split(),
                )
                rows = ask_run(paths, class_ids, class_names, (learned, judged), options)
            else:
                own_ids = np.unique(class_ids[learned], return_inverse=True)[1]
                rows = scores(features[learned], own_ids, features[judged])
            for score_name, row in rows.items():
                results[score_name][name].append(judge(row, is_unseen[judged]))
    summary = {
        score: summarize(rows, results["max_probability"]) for score, rows in results.items()
    }
    print(json.dumps(summary) if asked.json else show(summary))


def read_photos(data):
    """(paths, class ids (N,), class names) of labelled photos."""
    from data.labelled_data import read_labelled

    samples, class_names, _ = read_labelled(data)
    paths = [os.path.join(samples.folder, file_name) for file_name in samples.file_names]
    return np.array(paths), samples.class_ids, class_names


def compute_features(paths, backbone):
    """float32 (N, D)."""
    from prediction.embedding import embed
    from prediction.feature_extractor import FeatureExtractor

    with tempfile.TemporaryDirectory() as scratch:
        extractor = FeatureExtractor.from_backbone(backbone)
        target = os.path.join(scratch, "features.npz")
        content = embed(extractor, paths.tolist(), target, workers=2).content
        return np.array(content.features, np.float32)


def draw(class_ids, is_unseen, per_class, seed):
    """Positions of the photos to learn from, so many of each class that is not left out."""
    generator = np.random.default_rng(seed)
    seen = np.unique(class_ids[~is_unseen])
    return np.concatenate(
        [generator.permutation(np.flatnonzero(class_ids == one))[:per_class] for one in seen]
    )


def scores(learned, class_ids, judged):
    """dict of score -> float (M,), higher for what was probably never seen."""
    from scipy.special import logsumexp
    from sklearn.covariance import OAS

    from common.nearest import unit_rows
    from modeling.similarity import find_centers
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
    return {
        "max_probability": 1 - np.exp(logits.max(axis=1) - logsumexp(logits, axis=1)),
        "energy": -logsumexp(logits, axis=1),
        "nearest": distances[:, 0],
        "fifth_nearest": distances[:, 4],
        "prototype": 1 - (judged_units @ unit_rows(means).T).max(axis=1),
        "mahalanobis": squares.min(axis=1),
        "centers": 1 - (judged_units @ find_centers(learned, class_ids).T).max(axis=1),
    }


def ask_run(paths, class_ids, class_names, positions, options):
    """The same of a run that `train` makes, which is exported and answers like any other."""
    from data.samples import Samples
    from prediction.batch import predict_samples
    from prediction.classifier import Classifier

    learned, judged = positions
    with tempfile.TemporaryDirectory() as scratch:
        table = os.path.join(scratch, "photos.csv")
        with open(table, "w", encoding="utf-8", newline="") as csv_file:
            rows = [("path", "label")]
            rows += [(paths[index], class_names[class_ids[index]]) for index in learned]
            csv.writer(csv_file).writerows(rows)
        place = ("--save_dir", scratch, "--run", "run")
        run_mode("train", *place, "--train_data", table, "--log_dir", scratch, *options)
        run_mode("export", *place, "--format", "onnx")
        classifier = Classifier.load(os.path.join(scratch, "run", "model"))
        samples = Samples(os.sep, paths[judged].tolist(), class_ids[judged])
        predictions = predict_samples(classifier, samples, 32, 2)
    doubts = {
        "max_probability": 1 - predictions.probabilities.max(axis=1),
        "centers": 1 - predictions.similarities,
    }
    is_seen = np.isin(class_ids[judged], class_ids[learned])
    standardized = [(row - row[is_seen].mean()) / row[is_seen].std() for row in doubts.values()]
    return {**doubts, "familiarity": sum(standardized)}


def run_mode(mode, *words):
    subprocess.run([sys.executable, "run.py", "--mode", mode, *words], cwd=ROOT, check=True)


def judge(row, is_unseen):
    """(area under the ROC curve, fraction of the unseen found at `FALSE_ALARMS`)."""
    from sklearn.metrics import roc_auc_score

    threshold = np.quantile(row[~is_unseen], 1 - FALSE_ALARMS)
    return float(roc_auc_score(is_unseen, row)), float((row[is_unseen] > threshold).mean())


def summarize(by_class, reference):
    """Means over the classes, and the area's difference to the reference with a 95 % interval.

    The classes are drawn again for the interval: another data set would have other ones. Where
    one set of classes is left out, its seeds are drawn again.
    """
    if len(by_class) == 1:
        [[name, pairs]] = by_class.items()
        by_class = {seed: [pair] for seed, pair in enumerate(pairs)}
        reference = {seed: [pair] for seed, pair in enumerate(reference[name])}
    means = {name: np.mean(pairs, axis=0).tolist() for name, pairs in by_class.items()}
    differences = np.array([means[name][0] - np.mean(reference[name], axis=0)[0] for name in means])
    drawn = np.random.default_rng(0).integers(0, len(differences), (10_000, len(differences)))
    low, high = np.percentile(differences[drawn].mean(axis=1), [2.5, 97.5])
    area, found = np.mean(list(means.values()), axis=0)
    return {
        "area": float(area),
        "difference": float(differences.mean()),
        "difference_interval": (float(low), float(high)),
        "found": float(found),
        "classes": means,
    }


def show(summary):
    """Two lines for each score."""
    lines = []
    for name, row in summary.items():
        low, high = row["difference_interval"]
        by_class = "  ".join(f"{one} {area:.3f}" for one, (area, _) in row["classes"].items())
        lines += [
            f"{name:<16} {row['area']:.3f}  {row['difference']:+.3f} ({low:+.3f} to {high:+.3f}), "
            f"found {row['found']:.3f}",
            f"{'':<16} {by_class}",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
