"""A small network alone, the same with a teacher and photos without labels, and the teacher.

    python -m benchmarks.teacher --data DIR [--labelled 0.25] [--frozen]

DIR holds one folder of photos per class. In each fold a share of the photos to learn from keeps
its labels, those of the others are hidden: the teacher and the student alone learn the former, the
student with a teacher learns both. All are measured on the fold that nobody has seen. Fine-tuning
takes about 15 minutes on two cores with 480 photos, --frozen (heads only) about 4.
"""

import argparse
import csv
import json
import os
import shutil
import tempfile

import numpy as np

RESAMPLES = 2000  # of the bootstrap over photos
MODELS = ("teacher", "alone", "taught")
PAIRS = (("alone", "taught"), ("taught", "teacher"))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with one folder of photos per class")
    parser.add_argument("--labelled", type=float, default=0.25, help="share that keeps its labels")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--student", default="EfficientNetLite0")
    parser.add_argument("--teacher", default="EfficientNetLite2")
    parser.add_argument("--frozen", action="store_true", help="train the students' heads only")
    parser.add_argument("--seed", type=int, default=0, help="of folds, hidden labels and trainings")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    asked = parser.parse_args(argv)
    result = measure(asked)
    if asked.json:
        print(json.dumps(result))
        return
    counts = " + ".join(str(result[name]) for name in ("labelled", "unlabelled"))
    print(f"{result['photos']} photos judge; about {counts} are learned from per fold")
    for name in MODELS:
        scores = result[name]
        print(f"{name:8} accuracy {scores['accuracy']:.3f}  log loss {scores['log_loss']:.3f}")
    for first, second in PAIRS:
        for score, (difference, low, high) in result[f"{second} - {first}"].items():
            print(f"{second} - {first}: {score:8} {difference:+.3f} ({low:+.3f} to {high:+.3f})")


def measure(asked):
    """The scores of all models and their paired differences, over all folds.

    Args:
        asked: the command line's `argparse.Namespace`.

    Returns:
        dict, of JSON's types.
    """
    from sklearn.model_selection import StratifiedKFold, train_test_split

    from data.labelled_data import read_labelled

    samples, class_names, _ = read_labelled(asked.data)
    positions = np.arange(len(samples.file_names))
    true_probabilities = {name: np.zeros(len(positions)) for name in MODELS}
    is_right = {name: np.zeros(len(positions), bool) for name in MODELS}
    folds = StratifiedKFold(asked.folds, shuffle=True, random_state=asked.seed)
    for learned, judged in folds.split(positions, samples.class_ids):
        labelled, hidden = train_test_split(
            learned,
            train_size=asked.labelled,
            random_state=asked.seed,
            stratify=samples.class_ids[learned],
        )
        with tempfile.TemporaryDirectory() as scratch:
            write_data(scratch, samples, class_names, labelled, hidden)
            runs = train_models(scratch, asked)
            for name, run_path in runs.items():
                rows = predict(run_path, samples.select(judged))
                class_ids = samples.class_ids[judged]
                true_probabilities[name][judged] = rows[np.arange(len(rows)), class_ids]
                is_right[name][judged] = rows.argmax(axis=1) == class_ids
    log_losses = {name: -np.log(np.maximum(p, 1e-7)) for name, p in true_probabilities.items()}
    counts = {"photos": len(positions), "labelled": len(labelled), "unlabelled": len(hidden)}
    return counts | compare(is_right, log_losses)


def write_data(scratch, samples, class_names, labelled, hidden):
    """Writes a table of the photos with labels and a folder of those without."""
    with open(os.path.join(scratch, "labelled.csv"), "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label"))
        for position in labelled:
            path = os.path.abspath(os.path.join(samples.folder, samples.file_names[position]))
            writer.writerow((path, class_names[samples.class_ids[position]]))
    folder = os.path.join(scratch, "unlabelled")
    os.mkdir(folder)
    for position in hidden:
        name = samples.file_names[position]
        target_name = f"{position}{os.path.splitext(name)[1]}"
        shutil.copy(os.path.join(samples.folder, name), os.path.join(folder, target_name))


def train_models(scratch, asked):
    """Trains the teacher and both students; gives dict of name -> path of its run."""
    import train
    from config import parser

    def fit(name, *words):
        return train.fit(
            parser.parse(
                "train",
                [
                    *("--train_data", os.path.join(scratch, "labelled.csv"), "--run", name),
                    *("--save_dir", os.path.join(scratch, "runs"), "--seed", str(asked.seed)),
                    *("--log_dir", os.path.join(scratch, "logs"), *words),
                ],
            )
        )["run"]

    student = ["--backbone", asked.student]
    if asked.frozen:
        student += ["--freeze_epochs", "20", "--epochs", "20", "--cache_features"]
    taught = ["--teacher", "teacher", "--unlabelled", os.path.join(scratch, "unlabelled")]
    return {
        "teacher": fit("teacher", "--backbone", asked.teacher, "--head", "linear"),
        "alone": fit("alone", *student),
        "taught": fit("taught", *student, *taught),
    }


def predict(run_path, samples):
    """float32 (N, C), the probabilities that a run gives to photos."""
    from prediction.batch import predict_samples
    from prediction.classifier import Classifier

    classifier = Classifier.load(run_path, calibrated=False)
    return predict_samples(classifier, samples, 32, 2).probabilities


def compare(is_right, log_losses):
    """Scores by model, and the differences of `PAIRS` with 95 % intervals.

    Args:
        is_right: dict of model -> bool (N,), whether the answer is the true class.
        log_losses: dict of model -> float (N,).
    """
    from evaluation.intervals import paired_difference

    result = {
        name: {"accuracy": float(is_right[name].mean()), "log_loss": float(log_losses[name].mean())}
        for name in MODELS
    }
    generator = np.random.default_rng(0)
    for first, second in PAIRS:
        only_first = int((is_right[first] & ~is_right[second]).sum())
        only_second = int((is_right[second] & ~is_right[first]).sum())
        count = len(is_right[first])
        losses = log_losses[second] - log_losses[first]
        means = [generator.choice(losses, count).mean() for _ in range(RESAMPLES)]
        result[f"{second} - {first}"] = {
            "accuracy": (
                (only_second - only_first) / count,
                *paired_difference(only_first, only_second, count),
            ),
            "log loss": (float(losses.mean()), *np.quantile(means, (0.025, 0.975)).tolist()),
        }
    return result


if __name__ == "__main__":
    main()
