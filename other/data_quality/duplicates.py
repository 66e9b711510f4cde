"""Which images of a data set show the same picture, and which of those may be removed."""

import os
from collections import defaultdict
from typing import NamedTuple

from other.data_quality.findings import Detail, detail
from other.data_quality.image_checks import Look

OTHER_PART = ("in_validation", "in_training")  # the detail of an image by its part


class Image(NamedTuple):
    """An image of the data set.

    Attributes:
        path: str.
        label: str, the name of its class, or None where that is not known.
        part: int, 0 for the source, 1 for the validation data.
        look: `image_checks.Look`.
    """

    path: str
    label: str | None
    part: int
    look: Look


def exact_groups(images):
    """Groups images with the same bytes; those whose class is not known are left out.

    Args:
        images: list of `Image`.

    Returns:
        dict of index -> index of the first image with the same bytes.
    """
    first_index = {}
    return {
        index: first_index.setdefault(image.look.digest, index)
        for index, image in enumerate(images)
        if image.look.digest and image.label is not None
    }


def judge(images, groups, findings, alike, differences=lambda one, two: []):
    """Adds the findings about images that show the same picture.

    Args:
        images: list of `Image`.
        groups: dict of index -> group, of images that show the same, some only through others.
        findings: `findings.Findings`, to which rows are added.
        alike: function of two of `images`: whether these two show the same. Only an image that
            is like the one kept may be removed; of a series of photos all but the first would
            be removed otherwise.
        differences: function of two of `images` that are alike: list of str, what tells the first
            from the second, such as "mirrored".
    """
    members = defaultdict(list)
    for index, group in sorted(groups.items()):
        members[group].append(images[index])
    for group_images in members.values():
        if len({image.label for image in group_images}) > 1:
            _add_conflict(group_images, findings)
            continue
        training, validation = (
            [image for image in group_images if image.part == part] for part in (0, 1)
        )
        if training and validation:
            _add_leak(training, validation, findings, alike)
        else:
            _add_duplicates(training, findings, alike, differences)
        _add_duplicates(validation, findings, alike, differences)


def _add_conflict(group_images, findings):
    """Images of one picture with different classes."""
    group = next(findings.groups)
    for image in group_images:
        other = next(one for one in group_images if one.label != image.label)
        text = detail("conflict", label=image.label, other=other.label, path=other.path)
        findings.add("conflicting_labels", image.path, text, group, image.label)


def _add_leak(training, validation, findings, alike):
    """Images of one picture in training and validation: those in training may be removed."""
    group = next(findings.groups)
    for image in (*training, *validation):
        others = training if image.part else validation
        text = detail(OTHER_PART[image.part], path=others[0].path)
        remove = (
            image.part == 0
            and _can_remove(image, validation)
            and any(alike(image, other) for other in validation)
        )
        findings.add("leak", image.path, text, group, image.label, remove)


def _add_duplicates(group_images, findings, alike, differences):
    """Copies with one class in one folder: all but the best may be removed."""
    same_bytes = defaultdict(list)
    for image in group_images:
        same_bytes[image.look.digest].append(image)
    best_images = [
        _keep_best("exact_duplicate", "same_bytes", copies, findings, alike, differences)
        for copies in same_bytes.values()
    ]
    if best_images:
        _keep_best("near_duplicate", "same_picture", best_images, findings, alike, differences)


def _keep_best(kind, relation, copies, findings, alike, differences):
    """The best of `copies`; where there are others, adds findings about all."""
    best = max(
        copies,
        key=lambda image: (
            not os.path.islink(image.path),
            image.look.sound,
            image.look.pixels,
            image.look.bytes,
        ),
    )
    if len(copies) == 1:
        return best
    group = next(findings.groups)
    for image in copies:
        is_like_best = alike(image, best)
        remove = image is not best and is_like_best and _can_remove(image, [best])
        notes = differences(image, best) if is_like_best else ["through others"]
        text = Detail(
            [(relation, {"path": best.path}), *((note.replace(" ", "_"), {}) for note in notes)]
        )
        if image is best:
            text = detail("best", count=len(copies))
        findings.add(kind, image.path, text, group, image.label, remove)
    return best


def _can_remove(image, kept_images):
    """Whether no kept image is a link to this file, which would then lead nowhere."""
    return not any(
        os.path.islink(kept.path) and os.path.samefile(kept.path, image.path)
        for kept in kept_images
    )
