"""What a random split promises for photos in series, what a grouped one does, and what is true.

    python -m benchmarks.grouped_split [--repeats 20]

Made photos: each recording has a background of its own and one class, and the class shows in a
small object alone. The features are histograms of colours and the head is `linear_head.solve`, so
the background tells the recording, and the recording the class. The true score is that of the same
head on 100 recordings that nobody has seen. Both splits are those of `--mode split`: without a
rule, and with `--group`.
"""

import argparse
import contextlib
import io
import os
import tempfile

import numpy as np
from PIL import Image

from common.cpu import usable_cores
from data import parts
from data.labelled_data import read_labelled
from data.parts_table import PARTS
from evaluation.intervals import proportion
from training.linear_head import solve

CLASSES, RECORDINGS, PHOTOS = 4, 16, 15  # of a class, and of a recording
RULE = r"pattern:(r\d+)_"
SHARES = (0.6, 0.1, 0.3)
NEW_RECORDINGS = 100
OBJECT_COLORS = np.array([(221, 71, 71), (71, 221, 71), (71, 71, 221), (191, 191, 71)])
OBJECT_SPREAD = 10  # of an object's colour
SIDE, BINS, ROUNDS = 64, 6, 2000


def make_photo(generator, class_id, background):
    """uint8 (SIDE, SIDE, 3): an object of the class somewhere on a recording's background."""
    patches = background + generator.normal(0, 30, (6, 6, 1)) * (1, 1, 1)
    picture = np.asarray(
        Image.fromarray(np.clip(patches, 0, 255).astype(np.uint8)).resize((SIDE, SIDE), 3)
    ).copy()
    top, left = generator.integers(0, SIDE - 24, 2)
    height, width = generator.integers(14, 24, 2)
    color = OBJECT_COLORS[class_id] + generator.normal(0, OBJECT_SPREAD, 3)
    picture[top : top + height, left : left + width] = np.clip(color, 0, 255)
    return picture


def make_recordings(generator, count):
    """(pictures, class ids, number of the recording), `count` recordings of every class."""
    pictures, class_ids, recordings = [], [], []
    for recording in range(count * CLASSES):
        background = generator.uniform(40, 215, 3)
        for _ in range(PHOTOS):
            pictures.append(make_photo(generator, recording % CLASSES, background))
            class_ids.append(recording % CLASSES)
            recordings.append(recording)
    return pictures, np.array(class_ids), np.array(recordings)


def describe(pictures):
    """float32 (N, D): joint histograms of colours."""
    bins = np.stack(pictures).astype(int) * BINS // 256
    cells = (bins @ (BINS**2, BINS, 1)).reshape(len(pictures), -1)
    counts = np.stack([np.bincount(row, minlength=BINS**3) for row in cells])
    return np.sqrt(counts / cells.shape[1]).astype(np.float32)


def group_interval(correct, groups, generator, level=0.95):
    """Percentile interval of an accuracy, by drawing whole groups with replacement."""
    _, positions = np.unique(groups, return_inverse=True)
    sums, sizes = np.bincount(positions, correct), np.bincount(positions)
    drawn = generator.integers(0, len(sums), (ROUNDS, len(sums)))
    accuracies = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    return np.quantile(accuracies, ((1 - level) / 2, (1 + level) / 2))


def measure(seed, recordings=RECORDINGS, new_recordings=NEW_RECORDINGS):
    """The scores on one made data set.

    Args:
        seed: int.
        recordings, new_recordings: int, those of a class, and unseen ones of all classes.

    Returns:
        dict of "random" and "grouped" -> dict: accuracy (on the test part), truth (on new
        recordings), by_photos and by_groups (intervals of 95 %), shared (recordings on two sides).
    """
    generator = np.random.default_rng(seed)
    pictures, class_ids, numbers = make_recordings(generator, recordings)
    unseen = make_recordings(generator, new_recordings // CLASSES)
    answers = {}
    with tempfile.TemporaryDirectory() as root:
        for number, (picture, class_id, recording) in enumerate(zip(pictures, class_ids, numbers)):
            folder = os.path.join(root, f"class{class_id}")
            os.makedirs(folder, exist_ok=True)
            Image.fromarray(picture).save(os.path.join(folder, f"r{recording}_{number}.png"))
        for name, rule in (("random", None), ("grouped", RULE)):
            with contextlib.redirect_stderr(io.StringIO()):
                samples = read_labelled(root).samples
                assignment = parts.update(root, samples, SHARES, usable_cores(), rule=rule)
            os.unlink(assignment.path)
            order = [int(path.rpartition("_")[2].split(".")[0]) for path in samples.file_names]
            sides = [np.array(order)[assignment.parts == part] for part in range(len(PARTS))]
            answers[name] = _score(pictures, class_ids, numbers, sides, unseen, generator)
    return answers


def _score(pictures, class_ids, numbers, sides, unseen, generator):
    training, _, test = sides
    features = describe(pictures)
    weights = np.ones(len(training), np.float32)
    kernel, bias = solve(features[training], class_ids[training], weights, CLASSES)
    correct = (features[test] @ kernel + bias).argmax(axis=1) == class_ids[test]
    unseen_answers = (describe(unseen[0]) @ kernel + bias).argmax(axis=1)
    return {
        "accuracy": correct.mean(),
        "truth": (unseen_answers == unseen[1]).mean(),
        "by_photos": proportion(correct.sum(), len(correct)),
        "by_groups": group_interval(correct, numbers[test], generator),
        "shared": len({*numbers[training]} & {*numbers[test]}),
    }


def main():
    """Prints a line per kind of split, over some made data sets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=20)
    results = [measure(seed) for seed in range(parser.parse_args().repeats)]
    print(f"{'split':<8}  test accuracy (lowest to highest)   true score   truth in the interval")
    for name in ("random", "grouped"):
        rows = [result[name] for result in results]
        scores, truths = (np.array([row[key] for row in rows]) for key in ("accuracy", "truth"))
        within = {
            key: sum(row[key][0] <= row["truth"] <= row[key][1] for row in rows)
            for key in ("by_photos", "by_groups")
        }
        print(
            f"{name:<8}  {scores.mean():.3f} ({scores.min():.3f} to {scores.max():.3f})"
            f"              {truths.mean():.3f}        {within['by_groups']} of {len(rows)} by "
            f"groups, {within['by_photos']} by photos; {rows[0]['shared']} recordings on both sides"
        )


if __name__ == "__main__":
    main()
