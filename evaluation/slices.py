"""Where a model is worse: its accuracy on slices of the photos, such as those of one camera.

A slice is compared with the rest of the photos class by class, since one that holds the harder
classes is worse without anything being wrong with it; and p-values are corrected for the number
of slices, since of many some look bad by chance.
"""

from collections import Counter
from typing import NamedTuple

import numpy as np

from common.console import say
from common.errors import InputError, first_ten
from evaluation.intervals import difference, proportion
from evaluation.permutation_test import holm

MIN_PHOTOS = 10  # of a slice, and of the rest that it is compared with
MOST_NUMBERS = 10  # different numbers above which an attribute is cut into quartiles
NEGLIGIBLE = 1e-30  # probability of a number of right answers, left out to save time
SIGNIFICANCE_LEVEL = 0.05  # corrected p below which a slice is named
BETTER, WORSE, UNCLEAR = "better", "worse", "can't tell"
OTHER_CLASSES = "other classes"  # the verdict where the rest has no photo of a slice's classes


class Slice(NamedTuple):
    """Photos that share a value of an attribute, and the rest.

    Attributes:
        attribute: str, its name.
        value: str, what they share: a value, "LOW – HIGH", or "" for several rare values.
        pooled: int, the number of these rare values, else 0.
        members: bool (N,), the photos of the slice.
        others: bool (N,), the photos that have another value.
    """

    attribute: str
    value: str
    pooled: int
    members: np.ndarray
    others: np.ndarray


class Remark(NamedTuple):
    """How an attribute was divided.

    Attributes:
        attribute: str, its name.
        slices: int, 0 where no value divides the photos.
        is_cut: bool, whether these are quartiles of numbers.
        unknown: int, photos of which it is not known; they are in no slice and in no rest.
        rare: int, photos that are only in the rest, since too few share their value.
    """

    attribute: str
    slices: int
    is_cut: bool
    unknown: int
    rare: int


class Division(NamedTuple):
    """Photos divided by attributes.

    Attributes:
        slices: list of `Slice`.
        remarks: list of `Remark`, one per attribute.
    """

    slices: list
    remarks: list


def divide(attributes):
    """Divides photos by the values of their attributes.

    Values that fewer than `MIN_PHOTOS` photos have are pooled. More than `MOST_NUMBERS` different
    numbers are cut into quartiles.

    Args:
        attributes: list of `data.attributes.Attribute`, of the same N photos.

    Returns:
        `Division`.

    Raises:
        InputError: no attribute gives two slices.

    Example:
        >>> from data.attributes import Attribute
        >>> divide([Attribute("camera", ["A"] * 30 + ["B"] * 20)]).remarks
        [Remark(attribute='camera', slices=2, is_cut=False, unknown=0, rare=0)]
    """
    slices, remarks = [], []
    for name, values in attributes:
        values = np.array(values, object)
        is_known = values != ""
        numbers = _numbers(values[is_known])
        is_cut = numbers is not None and len(set(numbers)) > MOST_NUMBERS
        if is_cut:
            values[is_known] = _quartiles(numbers)
        own_slices = _slices_of(name, values, is_known)
        in_slices = sum(int(own.members.sum()) for own in own_slices)
        known_count = int(is_known.sum())
        unknown = len(values) - known_count
        remarks.append(Remark(name, len(own_slices), is_cut, unknown, known_count - in_slices))
        slices += own_slices
    useless = [remark.attribute for remark in remarks if not remark.slices]
    needed = f"no two values that at least {MIN_PHOTOS} of the {len(values):,} photos have"
    if not slices:
        raise InputError(
            f"{first_ten(useless)}: {needed}; measure on more photos, or name another attribute"
        )
    if useless:
        say(f"note: left out of the slices: {first_ten(useless)}: {needed}")
    return Division(slices, remarks)


def _numbers(values):
    """The values as float (N,), or None where one is no number."""
    try:
        numbers = np.array([float(value) for value in values])
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None


def _quartiles(numbers):
    """For each number the range of its quartile, from its lowest to its highest number: str."""
    inner_edges = np.unique(np.quantile(numbers, [0.25, 0.5, 0.75]))
    bins = np.searchsorted(inner_edges, numbers)
    names = {
        index: " – ".join(f"{limit(numbers[bins == index]):.6g}" for limit in (np.min, np.max))
        for index in np.unique(bins)
    }
    return [names[index] for index in bins]


def _slices_of(name, values, is_known):
    """The slices of one attribute: list of `Slice`, empty or two and more."""
    counts = Counter(values[is_known])
    common_values = sorted(value for value, count in counts.items() if count >= MIN_PHOTOS)
    rare_values = counts.keys() - set(common_values)
    masks = [(value, 0, values == value) for value in common_values]
    if len(rare_values) > 1:
        masks.append(("", len(rare_values), np.isin(values, list(rare_values))))
    slices = [Slice(name, value, pooled, mask, is_known & ~mask) for value, pooled, mask in masks]
    return [own for own in slices if min(own.members.sum(), own.others.sum()) >= MIN_PHOTOS]


def measure(division, is_right, class_ids):
    """Compares a model's accuracy on slices with that on the rest of the photos.

    Args:
        division: `Division` of N photos.
        is_right: bool (N,), which photos the model names right.
        class_ids: int (N,), the true classes.

    Returns:
        dict: tests, the number of different comparisons; attributes, the remarks as list of dict;
        rows, list of dict, the worst slice first, by what its accuracy lacks to the expected one.
        In a row attribute, value and pooled are those of `Slice`; photos, accuracy and
        accuracy_interval (Wilson's) of the slice; rest_photos and rest_accuracy; difference of
        both and difference_interval (Newcombe's); expected_accuracy, from `expected_accuracy`;
        p_value, from `stratified_test`, and p_corrected, by Holm for the number of slices, all
        three None where no class is in the slice and in the rest; verdict. Intervals contain the
        true value with a probability of 95 %.

    Example:

    ```python
    measure(divide(attributes), predicted == class_ids, class_ids)["rows"][0]["verdict"]  # "worse"
    ```
    """
    class_count = int(class_ids.max()) + 1
    rows, keys = [], []
    for own in division.slices:
        masks = (own.members & is_right, own.members, own.others & is_right, own.others)
        counts = [np.bincount(class_ids[mask], minlength=class_count) for mask in masks]
        rows.append({**_named(own), **compare_with_rest(*counts)})
        # Of two slices that are each other's rest, both ask the same question.
        keys.append(frozenset((own.members.tobytes(), own.others.tobytes())))
    result = _result(division, rows, keys)
    rows.sort(key=_gap)
    return result


def _gap(row):
    """What a slice's accuracy is above that expected, 0 where nothing can be."""
    expected = row["expected_accuracy"]
    return 0 if expected is None else row["accuracy"] - expected


def compare_with_rest(right, total, rest_right, rest_total):
    """Compares one slice with the rest.

    Args:
        right, total: int (C,), right answers and photos per class in the slice.
        rest_right, rest_total: int (C,), those in the rest; both have photos.

    Returns:
        dict, the row of `measure` from photos on, without p_corrected.
    """
    counts = (int(count.sum()) for count in (right, total, rest_right, rest_total))
    right_count, photos, rest_right_count, rest_photos = counts
    accuracy, rest_accuracy = right_count / photos, rest_right_count / rest_photos
    expected = expected_accuracy(right, total, rest_right, rest_total)
    p_value, excess = stratified_test(right, total, rest_right, rest_total)
    verdict = UNCLEAR
    if p_value is None:
        expected, verdict = None, OTHER_CLASSES
    elif excess * (accuracy - expected) > 0:
        verdict = BETTER if excess > 0 else WORSE
    return {
        "photos": photos,
        "accuracy": accuracy,
        "accuracy_interval": proportion(right_count, photos),
        "rest_photos": rest_photos,
        "rest_accuracy": rest_accuracy,
        "difference": accuracy - rest_accuracy,
        "difference_interval": difference(right_count, photos, rest_right_count, rest_photos),
        "expected_accuracy": expected,
        "p_value": p_value,
        "verdict": verdict,
    }


def measure_paired(division, compare):
    """Compares two models on slices; both see the same photos, so classes need no correction.

    Args:
        division: `Division` of N photos.
        compare: function from bool (N,), a slice's photos, to dict, with at least difference,
            p_value and verdict.

    Returns:
        dict like that of `measure`; rows, the lowest difference first, have attribute, value and
        pooled of `Slice`, what `compare` gives, and p_corrected. The verdict is "can't tell" where
        this is not below 0.05.

    Example:

    ```python
    measure_paired(divide(attributes), lambda own: compare.measure(first[own], second[own]))
    ```
    """
    rows = [{**_named(own), **compare(own.members)} for own in division.slices]
    keys = [own.members.tobytes() for own in division.slices]
    result = _result(division, rows, keys)
    rows.sort(key=lambda row: row["difference"])
    return result


def _named(own):
    value = own.value or f"other ({own.pooled} values)"
    return {"attribute": own.attribute, "value": value, "pooled": own.pooled}


def _result(division, rows, keys):
    """Corrects the p-values of the rows, and takes back the verdicts that do not outlast it."""
    for row, p_corrected in zip(rows, correct([row["p_value"] for row in rows], keys)):
        row["p_corrected"] = p_corrected
        if p_corrected is not None and p_corrected >= SIGNIFICANCE_LEVEL:
            row["verdict"] = UNCLEAR
    asked = {key for key, row in zip(keys, rows) if row["p_value"] is not None}
    remarks = [remark._asdict() for remark in division.remarks]
    return {"tests": len(asked), "attributes": remarks, "rows": rows}


def correct(p_values, keys):
    """Holm's correction of p-values for the number of different questions.

    Args:
        p_values: list of K floats, None where nothing could be asked.
        keys: list of K hashable values, equal for p-values of the same question.

    Returns:
        list of K floats or None.

    Example:
        >>> correct([0.01, 0.01, 0.04, None], ["camera", "camera", "site", "lens"])
        [0.02, 0.02, 0.04, None]
    """
    asked = {key: p_value for key, p_value in zip(keys, p_values) if p_value is not None}
    corrected = dict(zip(asked, holm(list(asked.values()))))
    return [corrected.get(key) for key in keys]


def expected_accuracy(right, total, rest_right, rest_total):
    """The accuracy that a slice would have if it were as good as the rest at each class.

    Direct standardisation: the rest's accuracy per class, weighted as the slice has the classes.
    A class that the rest lacks counts as it is in the slice.

    Args:
        right, total: int (C,), right answers and photos per class in the slice, which has photos.
        rest_right, rest_total: int (C,), those in the rest.

    Returns:
        float, from 0 to 1.

    Example:
        >>> expected_accuracy(*np.array([[6, 1], [10, 10], [90, 4], [100, 10]]))
        0.65
    """
    from_rest = total * rest_right / np.maximum(rest_total, 1)
    return float(np.where(rest_total > 0, from_rest, right).sum() / total.sum())


def stratified_test(right, total, rest_right, rest_total):
    """Exact two-sided p-value of a slice being as good as the rest at each class.

    The exact form of the test of Cochran, Mantel and Haenszel (Mantel and Haenszel 1959,
    "Statistical Aspects of the Analysis of Data from Retrospective Studies of Disease"; Agresti
    2013, "Categorical Data Analysis", section 7.3.5): within each class the slice's right answers
    are hypergeometric, and their sum over the classes is compared. With one class this is Fisher's
    exact test. The usual chi-square form names too many slices where errors are few.

    Args:
        right, total: int (C,), right answers and photos per class in the slice.
        rest_right, rest_total: int (C,), those in the rest.

    Returns:
        (float p-value, float excess): the right answers of the slice minus those expected; p is
        None where no class is in both.

    Example:
        >>> stratified_test(*np.array([[3], [4], [1], [4]]))  # Fisher's tea tasting
        (0.48571428571428565, 1.0)
    """
    probabilities, lowest, observed, expected = np.ones(1), 0, 0, 0.0
    in_both = np.flatnonzero((total > 0) & (rest_total > 0))
    for class_id in in_both:
        all_photos = int(total[class_id] + rest_total[class_id])
        all_right = int(right[class_id] + rest_right[class_id])
        own_total = int(total[class_id])
        low, high = max(0, all_right + own_total - all_photos), min(all_right, own_total)
        possible = np.arange(low, high + 1)
        class_probabilities = np.exp(
            _log_choose(all_right, possible)
            + _log_choose(all_photos - all_right, own_total - possible)
            - _log_choose(all_photos, own_total)
        )
        likely = np.flatnonzero(class_probabilities > NEGLIGIBLE)
        class_probabilities = class_probabilities[likely[0] : likely[-1] + 1]
        probabilities = np.convolve(probabilities, class_probabilities)
        lowest += low + int(likely[0])
        observed += int(right[class_id])
        expected += own_total * all_right / all_photos
    if not len(in_both):
        return None, 0.0
    if not lowest <= observed < lowest + len(probabilities):
        return 0.0, observed - expected
    # As likely up to rounding counts as equally likely.
    limit = probabilities[observed - lowest] * (1 + 1e-7)
    p_value = float(probabilities[probabilities <= limit].sum())
    return min(1.0, p_value), observed - expected


def _log_choose(count, chosen):
    """Logarithm of a binomial coefficient: `scipy.stats.hypergeom` is slow for many photos."""
    from scipy.special import gammaln

    return gammaln(count + 1) - gammaln(chosen + 1) - gammaln(count - chosen + 1)
