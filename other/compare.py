"""Says whether one of two models is better on the same images, or that they can't tell."""

import functools
import math
import os

import numpy as np

from common import console
from common.console import say
from common.errors import InputError, first_ten
from config.mode_options import CompareOptions
from data.attributes import read_attributes
from data.labelled_data import has_own_images
from data.parts import read_part
from evaluation import known_photos, slices
from evaluation.intervals import mcnemar, paired_difference, proportion
from other.reporting import slice_section
from prediction.batch import predict_samples
from prediction.classifier import Classifier, known_labels
from runs import run_folder

SIGNIFICANCE_LEVEL = 0.05  # p below which a difference counts
POWER = 0.8  # probability of showing the difference with the number of images that are needed
BETTER, WORSE, UNCLEAR = "better", "worse", "can't tell"


def main(options: CompareOptions):
    """`--mode compare`."""
    paths = _find_two(options.runs, options.save_dir)
    class_names = _common_class_names(paths, options.data)
    names_from = f"the labels of {paths[0]}"
    samples = read_part(options.data, options.part, class_names, names_from, options.workers)
    attributes = read_attributes(
        options.attributes, options.group, samples, options.data, class_names, options.workers
    )
    division = slices.divide(attributes) if attributes else None
    right, undecodable = [], {}
    for path in paths:  # in turn, so that only one model is in memory
        known_photos.tell(path, samples, options.workers)
        is_correct, errors = _correct(path, samples, class_names, options)
        right.append(is_correct)
        undecodable.update(errors)
    result = {**measure(*right), "undecodable": [str(error) for error in undecodable.values()]}
    if division:
        result["slices"] = slices.measure_paired(division, functools.partial(_on_slice, *right))
    console.show(result, functools.partial(_text, paths), options.json)


def _find_two(runs, save_dir):
    if len(runs) != 2:
        raise InputError(f"--runs: {len(runs)} given ({', '.join(runs)}); exactly two are compared")
    return [run_folder.find(name, save_dir, "--runs") for name in runs]


def measure(first, second):
    """Compares two models by which images they get right.

    Args:
        first, second: bool (N,), of the same images, N at least 1.

    Returns:
        dict: images; accuracy and intervals, of both; difference (second minus first) and
        difference_interval; only_first and only_second, how many images one model alone gets
        right; p_value, McNemar's; images_needed, from `images_needed`, None where the verdict is
        clear; verdict on the second. Intervals contain the true value with a probability of 95 %.
    """
    image_count = len(first)
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    low, high = paired_difference(only_first, only_second, image_count)
    p_value = mcnemar(only_first, only_second)
    verdict = UNCLEAR
    if p_value < SIGNIFICANCE_LEVEL and not low <= 0 <= high:
        verdict = BETTER if low > 0 else WORSE
    needed = images_needed(only_first, only_second, image_count) if verdict == UNCLEAR else None
    return {
        "images": image_count,
        "accuracy": [float(right.mean()) for right in (first, second)],
        "intervals": [proportion(int(right.sum()), image_count) for right in (first, second)],
        "difference": (only_second - only_first) / image_count,
        "difference_interval": (low, high),
        "only_first": only_first,
        "only_second": only_second,
        "p_value": p_value,
        "images_needed": needed,
        "verdict": verdict,
    }


def _on_slice(first, second, members):
    return measure(first[members], second[members])


def images_needed(only_first, only_second, count):
    """The number of images that would show the observed difference with a probability of 80 %.

    Connor 1987, "Sample Size for Testing Differences in Proportions for the Paired-Sample
    Design".

    Args:
        only_first, only_second: int, images that one model alone gets right.
        count: int, all images.

    Returns:
        int, or None where there is no difference.
    """
    from scipy.stats import norm

    if only_first == only_second:
        return None
    differing, difference = (only_first + only_second) / count, (only_second - only_first) / count
    spread = norm.ppf(1 - SIGNIFICANCE_LEVEL / 2) * math.sqrt(differing) + norm.ppf(
        POWER
    ) * math.sqrt(differing - difference**2)
    return math.ceil((spread / difference) ** 2)


def _common_class_names(paths, data):
    """The class names of both models, in the order of the first."""
    names, other_names = map(known_labels, paths)
    if set(names) != set(other_names):
        missing_names = first_ten(sorted(set(names) - set(other_names)))
        extra_names = first_ten(sorted(set(other_names) - set(names)))
        raise InputError(
            f"{paths[1]}: has other classes than {paths[0]}: it lacks "
            f"{missing_names or 'none'} and has {extra_names or 'none'} more"
        )
    if (
        names != other_names
        and os.path.isdir(data)
        and has_own_images(data)
        and not os.path.exists(os.path.join(data, "label.json"))
    ):
        say(
            f"note: the models have their classes in different orders, and {data} has no "
            f"label.json; its ids are read as those of {paths[0]}"
        )
    return names


def _correct(path, samples, class_names, options):
    """(bool (N,), which images a model gets right; dict of position -> error where undecodable)."""
    classifier = Classifier.load(path, calibrated=False)  # calibration does not change the answers
    probabilities, errors, _ = predict_samples(
        classifier, samples, options.batch_size, options.workers
    )
    class_ids = np.array([class_names.index(name) for name in classifier.class_names])
    is_correct = class_ids[probabilities.argmax(axis=1)] == samples.class_ids
    is_correct[list(errors)] = False
    return is_correct, errors


def _text(paths, result):
    path_width = max(map(len, paths))
    text_lines = [
        f"{name}  {path:<{path_width}}  accuracy {accuracy:.4f}, "
        f"95 % interval {low:.4f} to {high:.4f}"
        for name, path, accuracy, (low, high) in zip(
            "AB", paths, result["accuracy"], result["intervals"]
        )
    ]
    low, high = result["difference_interval"]
    text_lines += [
        "",
        f"images {result['images']}; only A right {result['only_first']}, only B right "
        f"{result['only_second']}",
        f"difference B - A  {result['difference']:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}, "
        f"McNemar's p {result['p_value']:.2g}",
        "",
        _sentence(result),
    ]
    if "slices" in result:
        text_lines += ["", *slice_section.text_lines(result["slices"], slice_section.THAN_A)]
    text_lines += [f"counted as wrong: {error}" for error in result["undecodable"]]
    return "\n".join(text_lines)


def _sentence(result):
    low, high = result["difference_interval"]
    if result["verdict"] != UNCLEAR:
        return f"B is {result['verdict']} than A."
    verdict_text = (
        f"Can't tell: B may be up to {max(high, 0):.1%} of the images better or "
        f"{max(-low, 0):.1%} worse."
    )
    if result["images_needed"] is not None:
        verdict_text += (
            f" To settle a difference of {abs(result['difference']):.2%} about "
            f"{result['images_needed']:,} images are needed."
        )
    return verdict_text
