"""What is wrong with a data set: broken files, labels, duplicates, leaks. Nothing is changed.

Writes a page to look at and a table with a proposed action for each file, which
`--mode clean` carries out.
"""

import csv
import itertools
import json
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from tqdm import tqdm

from common.errors import ImageError, InputError
from data import decoding, near_duplicates
from data.geometry import Preprocessing, target_size
from other.data_quality import duplicates, folder_checks, image_checks
from other.data_quality.findings import COLUMNS, KINDS, Findings
from other.data_quality.folder_checks import inside, read_folder
from other.reporting import html_pages
from other.reporting.charts import check_output_folder, output_folder

FILES = ("index.html", "findings.csv")
FOUND = 3  # exit status where there are errors or warnings
SHOWN = 200  # files of a kind on the page
THUMBNAIL = Preprocessing(144)


def main(options):
    """`--mode audit`.

    Returns:
        0 where nothing worse than a note was found, else `FOUND`.
    """
    check_output_folder(options.target, FILES)
    parts = [("--source", options.source)]
    if options.val_data:
        parts.append(("--val_data", options.val_data))
    # Absolute, so that clean finds the same files wherever it is called.
    folders = [read_folder(os.path.abspath(path), option) for option, path in parts]
    _check_places(folders, options)
    findings, images, pictures = audit(
        folders, options.labels, options.near_duplicates, options.workers
    )
    order = list(KINDS)
    rows = sorted(
        findings.rows, key=lambda row: (order.index(row["kind"]), row["group"] or 0, row["path"])
    )
    counts = Counter(row["kind"] for row in rows)
    severities = Counter(row["severity"] for row in rows)
    result = {
        "source": options.source,
        "val_data": options.val_data,
        "images": images,
        "counts": counts,
        "errors": severities["error"],
        "warnings": severities["warning"],
        "notes": severities["note"],
        "remove": len({row["path"] for row in rows if row["action"]}),
        "findings": os.path.join(options.target, "findings.csv"),
        "page": os.path.join(options.target, "index.html"),
    }
    with output_folder(options.target, FILES) as folder:
        _write_csv(os.path.join(folder, "findings.csv"), rows)
        text = html_pages.render("audit.html", **result, sections=_sections(rows, counts, pictures))
        with open(os.path.join(folder, "index.html"), "w", encoding="utf-8") as file:
            file.write(text)
    print(json.dumps(result, ensure_ascii=False) if options.json else _text(result))
    return FOUND if result["errors"] or result["warnings"] else 0


def _check_places(folders, options):
    for folder, option in zip(folders, ("--source", "--val_data")):
        for path in (options.target, options.target + ".old"):
            if inside(path, folder.path):
                raise InputError(
                    f"--target: {options.target} lies in {option} {folder.path}; name one outside"
                )
    if options.labels and folders[0].by_class:
        raise InputError(f"--labels: {folders[0].path} has a folder a class, which names it")
    if len(folders) == 2:
        one, two = folders
        if os.path.samefile(one.path, two.path):
            raise InputError(f"--val_data: {two.path} is the folder of --source")
        for inner, outer in ((one, two), (two, one)):
            if outer.by_class and inside(inner.path, outer.path):
                raise InputError(
                    f"--val_data: {inner.path} lies in {outer.path}; each image "
                    "would be found twice"
                )


def audit(folders, labels_path=None, near=True, workers=1):
    """Looks at every file of one or two folders.

    Args:
        folders: list of `Folder`: the source, then validation data where there are some.
        labels_path: JSON file with the class names, or None for each folder's own.
        near: whether to look for pictures that nearly agree, too.
        workers: threads that decode.

    Returns:
        (`Findings`, number of images, set of the paths that have a picture to show).

    Raises:
        InputError: `labels_path` is not such a file.
    """
    findings = Findings()
    names = folder_checks.label_names(folders, labels_path, findings)
    labelled = []
    for folder, (own, path) in zip(folders, names):
        folder_checks.layout(folder, findings)
        if folder.by_class:
            classes = [os.path.dirname(name).replace(os.sep, "/") for name in folder.images]
        else:
            classes = folder_checks.classes_of(folder, own, path, findings)
            if own is None and any(each.by_class for each in folders):
                classes = [None] * len(classes)  # numbers, which say nothing beside names
        labelled.append((folder, own, classes))
    folder_checks.empty_classes(labelled, labels_path, findings)

    named = [
        (os.path.join(folder.path, name), label, part)
        for part, (folder, _, classes) in enumerate(labelled)
        for name, label in zip(folder.images, classes)
    ]
    images, positions, pictures = [], [], None
    if near:
        pictures = np.empty((len(named), near_duplicates.SIDE, near_duplicates.SIDE, 3), np.uint8)
    with image_checks.hearing_warnings(), ThreadPoolExecutor(workers) as pool:
        looks = pool.map(lambda each: image_checks.look(each[0], near), named)
        bar = tqdm(looks, "looking", len(named), unit=" images", leave=False, disable=None)
        try:
            for (path, label, part), look in zip(named, bar):
                for kind, detail in look.faults:
                    findings.add(kind, path, detail, label=label)
                # A blank picture resembles every other one, and has a finding of its own.
                if look.picture is not None and label is not None and not look.blank:
                    pictures[len(positions)] = look.picture
                    positions.append(len(images))
                images.append(duplicates.Image(path, label, part, look._replace(picture=None)))
        finally:
            pool.shutdown(cancel_futures=True)
    groups = duplicates.exact_groups(images)
    if positions:
        found = near_duplicates.groups(near_duplicates.describe(pictures[: len(positions)]))
        groups.update(zip(positions, (positions[number] for number in found)))
    rows = {images[position].path: number for number, position in enumerate(positions)}

    def alike(one, two):  # others of a group are so only through a third
        return one.look.digest == two.look.digest or near_duplicates.alike(
            pictures[rows[one.path]], pictures[rows[two.path]]
        )

    duplicates.judge(images, groups, findings, alike)
    return findings, len(images), {each.path for each in images if each.look.digest}


def _sections(rows, counts, pictures):
    """For the page: each kind that was found, with its first files, those of a group together."""
    sections = []
    for kind in [kind for kind in KINDS if counts[kind]]:
        shown = list(itertools.islice((row for row in rows if row["kind"] == kind), SHOWN))
        groups = itertools.groupby(
            tqdm(shown, kind, unit=" images", leave=False, disable=None, delay=1),
            key=lambda row: row["group"],
        )
        severity, meaning = KINDS[kind]
        sections.append(
            {
                "kind": kind,
                "severity": severity,
                "meaning": meaning,
                "count": counts[kind],
                "more": counts[kind] - len(shown),
                "groups": [
                    [
                        {
                            **row,
                            "picture": _thumbnail(row["path"]) if row["path"] in pictures else None,
                        }
                        for row in group
                    ]
                    for _, group in groups
                ],
            }
        )
    return sections


def _thumbnail(path):
    try:
        with open(path, "rb") as file:
            image = decoding.decode(file.read(), THUMBNAIL, path)
    except (OSError, ImageError):  # it has gone since
        return None
    height, width = target_size(*image.shape[:2], THUMBNAIL)
    if height < image.shape[0]:
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return html_pages.thumbnail(image)


def _write_csv(path, rows):
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def _text(result):
    lines = []
    for kind, (severity, _) in KINDS.items():
        if result["counts"][kind]:
            lines.append(f"{result['counts'][kind]:>8,}  {severity:<7}  {kind}")
    lines.append(
        f"{result['images']:>8,}  images looked at: {result['errors']:,} errors, "
        f"{result['warnings']:,} warnings, {result['notes']:,} notes"
    )
    if result["remove"]:
        lines.append(
            f"{result['remove']:>8,}  files to remove, if you agree: "
            f"--mode clean --csv {result['findings']}"
        )
    lines.append(f"page: {result['page']}")
    return "\n".join(lines)
