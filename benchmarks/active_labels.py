"""How many labels it takes, by the order in which photos are labelled.

    python -m benchmarks.active_labels [--data DIR] [--seeds 10] [--batch 20] [--out results.jsonl]

Photos have features of the frozen EfficientNet-Lite0 and no label. In rounds of --batch photos an
order chooses, the true classes are given, and the linear head of `train --head linear` is solved
anew on all labels (with its usual penalty); a fifth of the photos, held out, judges. Counted are
the labels with which the accuracy first reached the target and had not lost it a round later: 0.95
on the demo's digits, each in a black frame of half its width, without which a linear head does not
reach 0.95 with all labels; with --data, labelled photos, --target (0.80) there. Each seed holds out
another fifth and starts elsewhere. A target that is not reached counts as all labels.

random              by chance
margin              smallest margin between the two most probable classes, a start by chance
entropy             largest entropy of the probabilities, a start by chance
margin_distance     largest product of 1 - margin and the distance (1 - cosine) to the nearest
                    photo labelled or chosen; starts with distances alone
k_center            farthest from what is labelled or chosen (Sener and Savarese 2018)
badge               k-means++ in the gradients of the last layer (Ash et al. 2020)
clusters            typical photos of clusters without a label (TypiClust, Hacohen et al. 2022)
clusters_margin     the same for the first 60 labels, then `margin`
cover               facility location: photos similar to what nothing labelled is similar to
useful              `other.labelling.usefulness.rank`: the same, each photo weighted by 1 - margin

The table has, of each order, the mean of the labels over the seeds, and the geometric mean of the
ratio to `random` with the same held-out fifth, with its 95 % interval (Student's t on logarithms).
Below it, `learning_estimate` minus the held-out accuracy at 100 and 200 labels.
"""

import argparse
import json
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

from common.nearest import unit_rows
from other.labelling import usefulness

HELD_OUT = 5  # one photo of so many judges
JUDGED_AT = (100, 200)  # labels at which `learning_estimate` is held against the truth
CLUSTERED_LABELS = 60
MOST_CLUSTERS = 500
TYPICAL_NEIGHBOURS = 20


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="labelled photos; without them, the digits alone")
    parser.add_argument("--target", type=float, default=0.80, help="accuracy on --data")
    parser.add_argument("--orders", default=",".join(ORDERS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--batch", type=int, default=20, help="labels per round")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--out", help="file to which the curves go, a line per training")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    asked = parser.parse_args(argv)
    summaries = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, path, target in write_features(asked, scratch):
            jobs = [
                (path, order, seed, target, asked.batch)
                for seed in range(asked.seeds)
                for order in asked.orders.split(",")
            ]
            # Not forked, since Keras runs threads
            with ProcessPoolExecutor(asked.processes, get_context("spawn")) as pool:
                results = list(pool.map(measure, jobs))
            if asked.out:
                with open(asked.out, "a", encoding="utf-8") as file:
                    file.writelines(json.dumps({"data": name, **one}) + "\n" for one in results)
            summaries[name] = summarize(results)
            if not asked.json:
                show(name, target, summaries[name])
    if asked.json:
        print(json.dumps(summaries))


def write_features(asked, scratch):
    """Yields (name, file of features and class ids, target accuracy) of each data set."""
    from benchmarks.unseen import compute_features, read_photos

    sets = [("digits", write_digits(os.path.join(scratch, "digits")), 0.95)]
    if asked.data:
        sets.append(("photos", read_photos(asked.data)[:2], asked.target))
    for name, (paths, class_ids), target in sets:
        path = os.path.join(scratch, f"{name}.npz")
        features = compute_features(paths, "EfficientNetLite0")
        np.savez(path, features=features, class_ids=class_ids)
        yield name, path, target


def write_digits(folder):
    """(paths, class ids) of the demo's digits, each in a black frame."""
    import cv2

    from data.labelled_data import read_labelled
    from other import demo_data

    paths, class_ids = [], []
    for part_name in demo_data.write(folder)["images"]:
        samples, _, _ = read_labelled(os.path.join(folder, part_name))
        paths += [os.path.join(samples.folder, file_name) for file_name in samples.file_names]
        class_ids.append(samples.class_ids)
    for path in paths:
        scan = cv2.imread(path)
        frame = [demo_data.SIZE // 2] * 4
        cv2.imwrite(path, cv2.copyMakeBorder(scan, *frame, cv2.BORDER_CONSTANT))
    return np.array(paths), np.concatenate(class_ids)


class Photos:
    """What an order may look at: features of all photos, which have labels, and probabilities.

    Attributes:
        units: float32 (N, D), features of unit length.
        labelled: list of int, rows with a label, in the order in which they got it.
        probabilities: float (N, C), of the model solved last; None before the first.
        generator: `numpy.random.Generator`.
    """

    def __init__(self, features, seed):
        self.units = unit_rows(features, np.float32)
        self.labelled, self.probabilities = [], None
        self.generator = np.random.default_rng(seed)

    def open_rows(self):
        """int (M,), rows without a label."""
        return np.setdiff1d(np.arange(len(self.units)), self.labelled)

    def unsure(self, rows):
        """float (M,), 1 - margin, or 1 without a model."""
        if self.probabilities is None:
            return np.ones(len(rows))
        ordered = np.sort(self.probabilities[rows], axis=1)
        return 1 - (ordered[:, -1] - ordered[:, -2])


def by_chance(photos, rows, count):
    return photos.generator.permutation(rows)[:count]


def by_margin(photos, rows, count):
    if photos.probabilities is None:
        return by_chance(photos, rows, count)
    return rows[np.argsort(-photos.unsure(rows), kind="stable")[:count]]


def by_entropy(photos, rows, count):
    if photos.probabilities is None:
        return by_chance(photos, rows, count)
    shares = np.maximum(photos.probabilities[rows], 1e-12)
    return rows[np.argsort((shares * np.log(shares)).sum(axis=1), kind="stable")[:count]]


def farthest(photos, rows, count, weights):
    """Greedily the largest product of weight and distance; the first by chance."""
    units = photos.units[rows]
    distances = np.full(len(rows), np.inf)
    if photos.labelled:
        distances = 1 - (units @ photos.units[photos.labelled].T).max(axis=1)
    chosen = []
    for _ in range(count):
        best = photos.generator.integers(len(rows))
        if np.isfinite(distances).all():
            scores = weights * np.maximum(distances, 0)
            scores[chosen] = -1
            best = int(scores.argmax())
        chosen.append(best)
        distances = np.minimum(distances, 1 - units @ units[best])
    return rows[chosen]


def by_margin_and_distance(photos, rows, count):
    return farthest(photos, rows, count, photos.unsure(rows))


def by_distance(photos, rows, count):
    return farthest(photos, rows, count, np.ones(len(rows)))


def by_badge(photos, rows, count):
    if photos.probabilities is None:
        return by_chance(photos, rows, count)
    units, gradients = photos.units[rows], photos.probabilities[rows].copy()
    gradients[np.arange(len(rows)), gradients.argmax(axis=1)] -= 1
    lengths = (gradients**2).sum(axis=1)  # times those of the units, which are 1
    chosen = [int(lengths.argmax())]
    distances = np.full(len(rows), np.inf)
    while len(chosen) < count:
        last = chosen[-1]
        products = (gradients @ gradients[last]) * (units @ units[last])
        distances = np.minimum(distances, np.maximum(lengths + lengths[last] - 2 * products, 0))
        distances[chosen] = 0
        chosen.append(int(photos.generator.choice(len(rows), p=distances / distances.sum())))
    return rows[chosen]


def by_clusters(photos, rows, count):
    from sklearn.cluster import KMeans

    cluster_count = min(len(photos.labelled) + count, MOST_CLUSTERS)
    seed = int(photos.generator.integers(2**31))
    clusters = KMeans(cluster_count, n_init=1, random_state=seed).fit_predict(photos.units)
    labelled_counts = np.bincount(clusters[photos.labelled], minlength=cluster_count)
    sizes = np.bincount(clusters[rows], minlength=cluster_count)
    chosen = []
    for cluster in np.lexsort((-sizes, labelled_counts)):
        members = rows[clusters[rows] == cluster]
        if len(members) and len(chosen) < count:
            similarities = photos.units[members] @ photos.units[members].T
            nearest = np.sort(similarities, axis=1)[:, -TYPICAL_NEIGHBOURS:]
            chosen.append(members[nearest.mean(axis=1).argmax()])
    others = np.setdiff1d(rows, chosen)[: count - len(chosen)]
    return np.concatenate([np.array(chosen, int), others])


def by_clusters_then_margin(photos, rows, count):
    by = by_clusters if len(photos.labelled) < CLUSTERED_LABELS else by_margin
    return by(photos, rows, count)


def by_cover(photos, rows, count):
    order = usefulness.rank(photos.units[rows], None, photos.units[photos.labelled], count)
    return rows[order[:count]]


def by_usefulness(photos, rows, count):
    probabilities = None if photos.probabilities is None else photos.probabilities[rows]
    order = usefulness.rank(photos.units[rows], probabilities, photos.units[photos.labelled], count)
    return rows[order[:count]]


ORDERS = {
    "random": by_chance,
    "margin": by_margin,
    "entropy": by_entropy,
    "margin_distance": by_margin_and_distance,
    "k_center": by_distance,
    "badge": by_badge,
    "clusters": by_clusters,
    "clusters_margin": by_clusters_then_margin,
    "cover": by_cover,
    "useful": by_usefulness,
}


def measure(job):
    """dict of one order and seed: the labels that it took, its curve, estimates against truth."""
    from threadpoolctl import threadpool_limits

    path, order, seed, target, batch = job
    with np.load(path) as file, threadpool_limits(1):
        return {"order": order, "seed": seed, **label(file, order, seed, target, batch)}


def label(data, order, seed, target, batch):
    """dict: labels (None where the target is not reached), photos, curve, estimates."""
    from scipy.special import softmax

    from training import linear_head

    features, class_ids = data["features"], data["class_ids"]
    class_count = int(class_ids.max()) + 1
    rows = np.random.default_rng(seed).permutation(len(features))
    judges, pool = np.split(rows, [len(rows) // HELD_OUT])
    judged, true = features[judges], class_ids[judges]
    features, class_ids = features[pool], class_ids[pool]
    photos, curve, estimates, needed = Photos(features, seed), [], {}, None
    while needed is None or len(photos.labelled) < max(JUDGED_AT):
        count = min(batch, len(pool) - len(photos.labelled))
        if not count:
            break
        photos.labelled += ORDERS[order](photos, photos.open_rows(), count).tolist()
        known = features[photos.labelled], class_ids[photos.labelled]
        head = linear_head.solve(*known, np.ones(len(known[0]), np.float32), class_count)
        accuracy = 0.0
        if head:  # of two classes at least
            kernel, bias = head
            photos.probabilities = softmax(features @ kernel + bias, axis=1)
            accuracy = float(((judged @ kernel + bias).argmax(axis=1) == true).mean())
        if needed is None and accuracy >= target and curve and curve[-1] >= target:
            needed = len(photos.labelled) - count
        curve.append(accuracy)
        if len(photos.labelled) in JUDGED_AT:
            others = features[photos.open_rows()]
            estimate = usefulness.learning_estimate(*known, class_count, others)
            estimates[len(photos.labelled)] = estimate and estimate.accuracy - accuracy
    return {"labels": needed, "photos": len(pool), "curve": curve, "estimates": estimates}


def summarize(results):
    """dict of order -> mean labels, ratio to random with interval, misses, errors of estimates."""
    from scipy.stats import t

    labels = {
        (one["order"], one["seed"]): one["photos"] if one["labels"] is None else one["labels"]
        for one in results
    }
    seeds = sorted({seed for _, seed in labels})
    summary = {}
    for order in dict(labels):
        own = [one for one in results if one["order"] == order[0]]
        counts = np.array([labels[order[0], seed] for seed in seeds], float)
        row = {
            "labels": float(counts.mean()),
            "fewest": int(counts.min()),
            "most": int(counts.max()),
            "not_reached": sum(one["labels"] is None for one in own),
        }
        if ("random", seeds[0]) in labels:
            logarithms = np.log(counts / [labels["random", seed] for seed in seeds])
            half = t.ppf(0.975, max(1, len(seeds) - 1)) * logarithms.std(ddof=1) / len(seeds) ** 0.5
            middle = logarithms.mean()
            row["ratio"] = np.exp([middle, middle - half, middle + half]).tolist()
        for count in JUDGED_AT:
            errors = [one["estimates"].get(count) for one in own]
            errors = [error for error in errors if error is not None]
            row[f"estimate_error_{count}"] = float(np.mean(errors)) if errors else None
        summary[order[0]] = row
    return summary


def show(name, target, summary):
    print(f"{name}, labels until {target}")
    for order, row in summary.items():
        ratio = "{:6.2f} ({:.2f} to {:.2f})".format(*row["ratio"]) if "ratio" in row else ""
        print(
            f"  {order:<16} {row['labels']:7.0f} ({row['fewest']} to {row['most']}){ratio}"
            f"  missed {row['not_reached']}",
            *(
                f"  estimate at {count}: {row[f'estimate_error_{count}']:+.3f}"
                for count in JUDGED_AT
                if row[f"estimate_error_{count}"] is not None
            ),
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
