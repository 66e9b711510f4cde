"""Says whether one of two models is better on the same images, or that they can't tell."""

import json
import math
import os

import numpy as np

from common.console import say
from common.errors import InputError, first_ten
from data.samples import read_label_names, read_samples
from evaluation.intervals import mcnemar, paired_difference, proportion
from prediction.batch import predict_samples
from prediction.classifier import Classifier, known_labels
from runs import run_folder

SIGNIFICANT = 0.05  # p below which a difference counts
POWER = 0.8  # chance of seeing the difference, where the images needed for it are told
BETTER, WORSE, UNCLEAR = "better", "worse", "can't tell"


def main(options):
    """`--mode compare`."""
    if len(options.runs) != 2:
        raise InputError(
            f"--runs: {len(options.runs)} given ({', '.join(options.runs)}); exactly two are "
            "compared"
        )
    paths = [run_folder.find(name, options.save_dir, "--runs") for name in options.runs]
    labels = _common_labels(paths, options.data)
    samples = read_samples(options.data, labels, f"the labels of {paths[0]}")
    right, undecodable = [], {}
    for path in paths:  # one after the other: one model in memory
        correct, errors = _correct(path, samples, labels, options)
        right.append(correct)
        undecodable.update(errors)
    result = {**measure(*right), "undecodable": [str(error) for error in undecodable.values()]}
    print(json.dumps(result, ensure_ascii=False) if options.json else _text(paths, result))


def measure(first, second):
    """Compares two models by which images they get right.

    Args:
        first, second: bool (N,), of the same images, N at least 1.

    Returns:
        dict: images; accuracy and intervals, of both; difference (second less first) and
        difference_interval; only_first and only_second, how many images one model alone gets
        right; p_value, McNemar's; images_needed as the function, None where the verdict is
        clear; verdict on the second. Intervals hold the true value with 95 %.
    """
    count = len(first)
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    low, high = paired_difference(only_first, only_second, count)
    p_value = mcnemar(only_first, only_second)
    verdict = UNCLEAR
    if p_value < SIGNIFICANT and not low <= 0 <= high:
        verdict = BETTER if low > 0 else WORSE
    needed = images_needed(only_first, only_second, count) if verdict == UNCLEAR else None
    return {
        "images": count,
        "accuracy": [float(right.mean()) for right in (first, second)],
        "intervals": [proportion(int(right.sum()), count) for right in (first, second)],
        "difference": (only_second - only_first) / count,
        "difference_interval": (low, high),
        "only_first": only_first,
        "only_second": only_second,
        "p_value": p_value,
        "images_needed": needed,
        "verdict": verdict,
    }


def images_needed(only_first, only_second, count):
    """How many images would show the observed difference to be real, with a chance of 80 %.

    Connor 1987, "Sample Size for Testing Differences in Proportions for the Paired-Sample
    Design". None where there is no difference.
    """
    from scipy.stats import norm

    if only_first == only_second:
        return None
    differing, difference = (only_first + only_second) / count, (only_second - only_first) / count
    spread = norm.ppf(1 - SIGNIFICANT / 2) * math.sqrt(differing) + norm.ppf(POWER) * math.sqrt(
        differing - difference**2
    )
    return math.ceil((spread / difference) ** 2)


def _common_labels(paths, data):
    """The class names in the order of the labelled images' ids.

    That is the order of their own label.json, else of the first model.
    """
    names = [known_labels(path) for path in paths]
    found = dict(zip(paths, names))
    own = os.path.join(data, "label.json")
    if os.path.exists(own):
        found[own] = read_label_names(own)
    for place, other in found.items():
        if set(other) != set(names[0]):
            lacking = first_ten(sorted(set(names[0]) - set(other)))
            more = first_ten(sorted(set(other) - set(names[0])))
            raise InputError(
                f"{place}: has other classes than {paths[0]}: it lacks {lacking or 'none'} and "
                f"has {more or 'none'} more"
            )
    if os.path.exists(own):
        return found[own]
    if names[0] != names[1]:
        say(
            f"note: the models order their classes otherwise, and {data} has no label.json; its "
            f"ids are read as those of {paths[0]}"
        )
    return names[0]


def _correct(path, samples, labels, options):
    """bool (N,): which images a model gets right; and the errors of undecodable ones."""
    classifier = Classifier.load(path, calibrated=False)  # which is likeliest stays the same
    probabilities, errors = predict_samples(
        classifier, samples, options.batch_size, options.workers
    )
    ids = np.array([labels.index(label) for label in classifier.class_names])
    correct = ids[probabilities.argmax(axis=1)] == samples.class_ids
    correct[list(errors)] = False
    return correct, errors


def _text(paths, result):
    width = max(map(len, paths))
    lines = [
        f"{name}  {path:<{width}}  accuracy {accuracy:.4f}, 95 % interval {low:.4f} to {high:.4f}"
        for name, path, accuracy, (low, high) in zip(
            "AB", paths, result["accuracy"], result["intervals"]
        )
    ]
    low, high = result["difference_interval"]
    lines += [
        "",
        f"images {result['images']}; only A right {result['only_first']}, only B right "
        f"{result['only_second']}",
        f"difference B - A  {result['difference']:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}, "
        f"McNemar's p {result['p_value']:.2g}",
        "",
        _sentence(result),
    ]
    lines += [f"counted as wrong: {error}" for error in result["undecodable"]]
    return "\n".join(lines)


def _sentence(result):
    low, high = result["difference_interval"]
    if result["verdict"] != UNCLEAR:
        return f"B is {result['verdict']} than A."
    text = (
        f"Can't tell: B may be up to {max(high, 0):.1%} of the images better or "
        f"{max(-low, 0):.1%} worse."
    )
    if result["images_needed"] is not None:
        text += (
            f" To settle a difference of {abs(result['difference']):.2%} about "
            f"{result['images_needed']:,} images are needed."
        )
    return text
