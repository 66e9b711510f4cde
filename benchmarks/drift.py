"""How often `--mode drift` raises a false alarm, and how often it sees a change.

    python -m benchmarks.drift --data DIR [--draws 1000] [--backbone NAME]

DIR holds photos. A linear head is solved on the frozen features of a quarter of them, each class a
folder; the others are drawn at random as validation photos and as new ones, 100 and 100. For the
false alarms nothing is changed; for the power a part of the new photos is made dark, blurred, or
replaced by photos of one class. Counts as an alarm what does so in the mode: one of three
questions with an adjusted p below 0.05.
"""

import argparse
import json
import os
from collections import defaultdict
from types import SimpleNamespace

import numpy as np

from evaluation.robustness import corrupt

COUNT = 100  # photos of each group
PARTS = (0.05, 0.2, 0.5)  # of the new photos that are changed
POWER_DRAWS = 100


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with one folder of photos per class")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--backbone", default="EfficientNetLite0")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(argv)
    photos = {kind: read_photos(asked, kind) for kind in ("unchanged", "dark", "blurred")}
    class_ids = photos["unchanged"].class_ids
    result = {"false_alarms": alarms(photos, class_ids, None, 0, asked.draws)}
    for kind in ("dark", "blurred", "one class"):
        for part in PARTS:
            result[f"{kind}, {part:.0%}"] = alarms(photos, class_ids, kind, part, POWER_DRAWS)
    if asked.json:
        print(json.dumps(result))
        return
    for name, rates in result.items():
        words = "  ".join(f"{question} {rate:.3f}" for question, rate in rates.items())
        print(f"{name:<16} {words}")


def read_photos(asked, kind):
    """Statistics, features and probabilities of all photos, made worse in one way or not."""
    from data.image_files import walk_images
    from evaluation.photo_statistics import photo_statistics
    from prediction.feature_extractor import FeatureExtractor
    from prediction.streaming import stream

    paths = walk_images(asked.data)
    extractor = FeatureExtractor.from_backbone(asked.backbone)
    generator = np.random.default_rng(0)

    def compute(images):
        if kind == "dark":
            images = np.stack([corrupt(image, "darkness", 0.55, generator) for image in images])
        if kind == "blurred":
            images = np.stack([corrupt(image, "blur", 1.0, generator) for image in images])
        statistics = [photo_statistics(image) for image in images]
        return zip(statistics, extractor.compute(images, 32))

    answers = [row for _, row in stream(paths, extractor.preprocessing, compute, 32, 2)]
    statistics, features = map(np.stack, zip(*answers))
    names = [os.path.basename(os.path.dirname(path)) for path in paths]
    class_ids = np.unique(names, return_inverse=True)[1]
    return SimpleNamespace(statistics=statistics, features=features, class_ids=class_ids)


def alarms(photos, class_ids, kind, part, draws):
    """dict of question -> fraction of the draws in which it raises an alarm; "any" is all three."""
    from scipy.special import softmax

    from common.nearest import unit_rows
    from other.drift import measure
    from training import linear_head

    unchanged, counts = photos["unchanged"], defaultdict(int)
    generator = np.random.default_rng(1)
    order = generator.permutation(len(class_ids))
    learned, others = order[: len(order) // 4], order[len(order) // 4 :]
    ones = np.ones(len(learned), np.float32)
    classes = class_ids.max() + 1
    kernel, bias = linear_head.solve(unchanged.features[learned], class_ids[learned], ones, classes)

    def group(statistics, features):
        return SimpleNamespace(
            paths=range(len(features)),
            photos=statistics,
            features=unit_rows(features),
            predictions=softmax(features @ kernel + bias, axis=1),
        )

    for _ in range(draws):
        chosen = generator.permutation(others)
        before, now = chosen[:COUNT], chosen[COUNT : 2 * COUNT].copy()
        changed = np.arange(COUNT) < round(part * COUNT)
        source = photos.get(kind, unchanged)
        if kind == "one class":
            rest = chosen[2 * COUNT :]
            members = rest[class_ids[rest] == generator.integers(classes)]
            now[changed] = generator.choice(members, changed.sum())
        mixed = [
            np.where(changed[:, None], getattr(source, name)[now], getattr(unchanged, name)[now])
            for name in ("statistics", "features")
        ]
        result = measure(
            group(unchanged.statistics[before], unchanged.features[before]),
            group(*mixed),
            tuple(map(str, range(classes))),
        )
        counts["any"] += result["moved"]
        for row in result["questions"]:
            counts[row["question"]] += row["moved"]
    return {question: count / draws for question, count in counts.items()}


if __name__ == "__main__":
    main()
