"""Which variants of an export are close enough to the trained model to be published."""

import os
from typing import NamedTuple

import numpy as np

from export import verification, web, web_proof
from export.formats import Variant, with_bfloat16
from export.verification import Comparison
from runs import reference_images

TOLERANCE = 1e-4  # on probabilities, between the training's device and this one
MIN_AGREEMENT = 0.995
MAX_DROP = 0.01
MAX_PIXEL_DIFFERENCE = 1.5  # levels in the mean: other decoders and resizing, no other picture
ENOUGH_IMAGES = 100  # with fewer, an agreement tells little


class Limits(NamedTuple):
    """What differences to the trained model are acceptable.

    Attributes:
        tolerance: float, maximum difference of a probability, and of a similarity, for float32.
        min_agreement: float, minimum fraction of the images with the same most probable class,
            for lower precisions.
        max_drop: float, maximum loss of accuracy on the images with a known class, for lower
            precisions.
    """

    tolerance: float = TOLERANCE
    min_agreement: float = MIN_AGREEMENT
    max_drop: float = MAX_DROP

    def problem(self, precision, comparison):
        """What prevents a variant from being published.

        Args:
            precision: str, of the variant.
            comparison: `Comparison` of its answers.

        Returns:
            str, "" where nothing does.
        """
        differences = [comparison.difference, comparison.similarity or 0.0]
        difference = float(np.max(differences))  # NaN where one is
        if comparison.pixels is not None:  # then its probabilities may differ in float32, too
            if not comparison.pixels <= MAX_PIXEL_DIFFERENCE:
                return (
                    f"makes pixels that differ by {comparison.pixels:.2f} levels in the mean, "
                    f"allowed is {MAX_PIXEL_DIFFERENCE:g}"
                )
        elif precision == "float32":
            if difference <= self.tolerance:  # False for NaN
                return ""
            return f"differs by {difference:.1e}, allowed is {self.tolerance:g}"
        if not np.isfinite(difference):
            return "gives probabilities or similarities that are NaN or infinite"
        if comparison.agreement < self.min_agreement:
            return (
                f"predicts the same class for {comparison.agreement:.2%} of the images, the "
                f"minimum is {self.min_agreement:.2%} (--min_agreement)"
            )
        if (comparison.drop or 0) > self.max_drop:
            return (
                f"loses {comparison.drop:.4f} of accuracy, allowed is {self.max_drop:g} "
                "(--max_drop)"
            )
        return ""


DEFAULT_LIMITS = Limits()


class Proof(NamedTuple):
    """How close an exported model is to the trained model.

    Attributes:
        comparisons: dict of `Variant` -> `Comparison`.
        from_bytes: `Comparison` of the SavedModel's signature that takes image files, or None.
        image_count: int, number of images compared.
    """

    comparisons: dict
    from_bytes: Comparison | None
    image_count: int

    def formats(self):
        """dict of format -> dict of precision -> dict, as model.json and `--json` hold it."""
        table = {}
        for variant, comparison in self.comparisons.items():
            table.setdefault(variant.format, {})[variant.precision] = comparison.to_json()
        return table

    def judge(self, limits):
        """Sorts out what is not close enough.

        Args:
            limits: `Limits`.

        Returns:
            (`Proof` without the variants that are left out, list of str, the problems of those
            that were requested).
        """
        comparisons, problems = {}, []
        for variant, comparison in self.comparisons.items():
            problem = limits.problem(variant.precision, comparison)
            if problem and variant.requested:
                problems.append(f"{variant} {problem}")
            if variant.requested or not (problem or self.image_count < ENOUGH_IMAGES):
                comparisons[variant] = comparison
        return self._replace(comparisons=comparisons), problems


def prove(folder, run, variants, image_paths, expected):
    """Compares an exported model with the trained model, in a fresh process; a page in a browser.

    OpenVINO's bfloat16 is tried as well where this CPU has it.

    Args:
        folder: str, the folder of the exported model.
        run: `run_folder.Run`.
        variants: list of `Variant`.
        image_paths: list of N image files.
        expected: `Answers` of the trained model.

    Returns:
        `Proof`.

    Raises:
        RunError: the exported model cannot be opened there.
    """
    tasks, pages = [], [variant for variant in variants if variant.format == web.FORMAT]
    for variant in with_bfloat16([variant for variant in variants if variant not in pages]):
        tasks.append(variant)
        if variant.format == "savedmodel":
            tasks.append(Variant("savedmodel", "bytes"))
    pairs = [(variant.format, variant.precision) for variant in tasks]
    class_ids = reference_images.labels(run, image_paths)
    answers = verification.run_in_subprocess(folder, pairs, image_paths, run.preprocessing)
    comparisons, from_bytes = {}, None
    for variant, answer in zip(tasks, answers):
        if variant.precision != "bytes":
            comparisons[variant] = verification.compare(expected, answer, class_ids)
            continue
        decoded = ~np.isnan(answer.probabilities).all(axis=1)
        if decoded.any():
            from_bytes = verification.compare(
                expected.rows(decoded), answer.rows(decoded), class_ids[decoded]
            )._replace(images=int(decoded.sum()))
    for variant in pages:
        comparisons[variant] = _prove_page(folder, run, image_paths, expected, class_ids)
    return Proof(comparisons, from_bytes, len(image_paths))


def _prove_page(folder, run, image_paths, expected, class_ids):
    """`Comparison` of what a page makes of the images that its browser decodes."""
    found = web_proof.predict(
        os.path.join(folder, web.FOLDER), image_paths, len(run.class_names), run.preprocessing.size
    )
    decoded = found.decoded
    decoded_paths = [image_paths[position] for position in decoded]
    comparison = verification.compare(expected.rows(decoded), found.answers, class_ids[decoded])
    return comparison._replace(
        images=len(decoded) if len(decoded) < len(image_paths) else None,
        pixels=web_proof.pixel_difference(found.pixels, decoded_paths, run.preprocessing),
    )
