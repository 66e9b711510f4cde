"""Labels flipped in 5 % of the digits' training part: how many of them are suspected.

    python -m benchmarks.label_errors [--seeds 3]

Trains with the demo's recipe on digits of which 63 of 1,257 have another class's label, then
asks `other.label_suspects` about the training folder. Goals: at least 80 % of the flipped
among the suspects, and at most twice as many suspects as flips. About 3 minutes a seed.
"""

import argparse
import json
import os
import tempfile

import numpy as np

import run
from data.label_names import read_label_names
from data.samples import read_samples, write_sample
from evaluation import label_errors

SHARE = 0.05
RECIPE = (
    "--backbone",
    "EfficientNetB0",
    "--weights",
    "none",
    "--input_size",
    "32",
    "--drop_connect",
    "0",
    "--epochs",
    "24",
    "--batch_size",
    "64",
    "--horizontal_flip",
    "no",
    "--random_eraser",
    "0",
)


def flip(folder, seed):
    """Gives a share of a folder's samples another class; returns their positions."""
    samples = read_samples(folder, read_label_names(os.path.join(folder, "label.json")))
    generator = np.random.default_rng(seed)
    chosen = generator.choice(
        len(samples.file_names), round(SHARE * len(samples.file_names)), replace=False
    )
    for position in chosen:
        label = (samples.class_ids[position] + generator.integers(1, 10)) % 10
        write_sample(folder, samples.file_names[position], label)
    return chosen


def measure(seed):
    with tempfile.TemporaryDirectory() as place:
        data = os.path.join(place, "digits")
        run.main(["--mode", "demo_data", "--target", data, "--seed", str(seed), "--json"])
        folder = os.path.join(data, "train_datasets")
        flipped = flip(folder, seed)
        # Validation is held out of the same training part, wrong labels and all, as users have it.
        path = os.path.join(place, "runs", "flipped")
        status = run.main(
            [
                "--mode",
                "train",
                "--run",
                "flipped",
                "--train_data",
                folder,
                "--save_dir",
                os.path.join(place, "runs"),
                "--log_dir",
                place,
                "--seed",
                str(seed),
                "--json",
                *RECIPE,
            ]
        )
        if status:
            raise SystemExit(status)
        from prediction.batch import predict_samples
        from prediction.classifier import Classifier

        samples = read_samples(folder, read_label_names(os.path.join(folder, "label.json")))
        probabilities, _, _ = predict_samples(Classifier.load(path), samples, 64, 2)
        suspects = label_errors.find(label_errors.recall(path, samples), samples, probabilities)
        found = {each.position for each in suspects} & set(flipped.tolist())
        return {
            "seed": seed,
            "flipped": len(flipped),
            "suspects": len(suspects),
            "found": round(len(found) / len(flipped), 3),
            "suspects_per_flip": round(len(suspects) / len(flipped), 3),
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    for seed in range(parser.parse_args().seeds):
        print(json.dumps(measure(seed)), flush=True)


if __name__ == "__main__":
    main()
