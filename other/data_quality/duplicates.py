"""Which images of a data set are the same, and which of those may go."""

import os
from collections import defaultdict
from typing import NamedTuple

from other.data_quality.image_checks import Look


class Image(NamedTuple):
    """An image of the source (part 0) or of the validation data (part 1).

    `label` is the name of its class, None where that is not known; `look` what
    `image_checks.look` says.
    """

    path: str
    label: str | None
    part: int
    look: Look


def exact_groups(images):
    """{position: position of the first with the same bytes} of images with a known class."""
    first = {}
    return {
        position: first.setdefault(each.look.digest, position)
        for position, each in enumerate(images)
        if each.look.digest and each.label is not None
    }


def judge(images, groups, findings, alike):
    """Findings about pictures that are the same.

    Args:
        images: list of `Image`.
        groups: position -> group, of those that show the same, some only through others.
        findings: `other.findings.Findings`, to add to.
        alike: function of two of `images`: whether they show the same by themselves. Only such a
            one may go, or of a series of photos the first alone would stay.
    """
    members = defaultdict(list)
    for position, group in sorted(groups.items()):
        members[group].append(images[position])
    for together in members.values():
        if len({each.label for each in together}) > 1:
            _conflict(together, findings)
            continue
        training, validation = ([each for each in together if each.part == part] for part in (0, 1))
        if training and validation:
            group = next(findings.groups)
            for each in together:
                there, others = ("training", training) if each.part else ("validation", validation)
                findings.add(
                    "leak",
                    each.path,
                    f"{there} has it too: {others[0].path}",
                    group,
                    each.label,
                    not each.part
                    and _can_go(each, validation)
                    and any(alike(each, one) for one in validation),
                )
        else:
            _duplicates(training, findings, alike)
        _duplicates(validation, findings, alike)


def _conflict(together, findings):
    group = next(findings.groups)
    for each in together:
        other = next(one for one in together if one.label != each.label)
        findings.add(
            "conflicting_labels",
            each.path,
            f"is {each.label} here and {other.label} as {other.path}",
            group,
            each.label,
        )


def _duplicates(together, findings, alike):
    """Copies of one class in one folder: all but the best may go."""
    twins = defaultdict(list)
    for each in together:
        twins[each.look.digest].append(each)
    best = [
        _keep_best("exact_duplicate", "has the bytes of", each, findings, alike)
        for each in twins.values()
    ]
    if best:
        _keep_best("near_duplicate", "shows the same as", best, findings, alike)


def _keep_best(kind, what, together, findings, alike):
    """The best of `together`; where there are others, findings about all."""
    best = max(
        together,
        key=lambda each: (
            not os.path.islink(each.path),
            each.look.sound,
            each.look.pixels,
            each.look.bytes,
        ),
    )
    if len(together) > 1:
        group = next(findings.groups)
        for each in together:
            near = alike(each, best)
            detail = f"{what} {best.path}" + ("" if near else ", through others: look at both")
            if each is best:
                detail = f"is the one to keep of {len(together)}"
            findings.add(
                kind,
                each.path,
                detail,
                group,
                each.label,
                each is not best and near and _can_go(each, [best]),
            )
    return best


def _can_go(image, kept):
    """Whether none of those kept is a link to this file, which would then lead nowhere."""
    return not any(
        os.path.islink(each.path) and os.path.samefile(each.path, image.path) for each in kept
    )
