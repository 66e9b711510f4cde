"""Series of photos, such as the frames of a recording: groups on two sides, and signs of series."""

import os
import re
from collections import Counter, defaultdict

import numpy as np

from common.commands import command_line
from common.errors import InputError
from data.exif import read_capture
from data.groups import name_groups
from data.image_files import GROUPS
from data.labelled_data import FOLDER
from data.packed_index import PackedNames
from data.parts_table import PARTS, exists, read_rows, rule_of, table_path
from data.samples import Samples
from other.data_quality.findings import Detail, detail

# "rec1" of "glass/rec1_001.jpg": what stands before the counter at the end of a name
COUNTED = r"([^/]*?)[ _-]*\d+\.[^./]*$"
OTHER_SIDE = dict(zip(PARTS, ("group_in_train", "group_in_val", "group_in_test")))  # details
LEAST_OF_SERIES, LEAST_SERIES = 3, 3  # photos, and series of a class: two may be two cameras
LEAST_COPIES = 0.1  # fraction of the photos that are near copies of others
LOOKED_AT = 200  # photos whose EXIF block is read for a suggestion


def agreed_rule(source, rule, has_validation):
    """The rule to look for groups by: the one asked for, or that of the data's splits.csv.

    Args:
        source: str, a folder or a CSV file.
        rule: str, as of `--group`, or None.
        has_validation: bool, whether there are validation data.

    Returns:
        str or None.

    Raises:
        InputError: there is a rule, and nothing says which sides there are.
    """
    if rule and not has_validation and not exists(source):
        raise InputError(
            f"--group: {rule}: there is one side only: name the other with --val_data, or make "
            f"{table_path(source)} with --mode split --data {source} --group {rule}"
        )
    return rule or rule_of(source)


def check_groups(folders, rule, findings, workers=1):
    """Adds the groups that are on two sides: a row for each side, with its first photo.

    Args:
        folders: list of `folder_checks.Folder`: the source, then the validation data if any.
            Without these the sides are the parts of the source's splits.csv.
        rule: str, as of `--group`.
        findings: `findings.Findings`, to which rows are added.
        workers: int, threads that read EXIF blocks.

    Raises:
        InputError: the rule gives no photo a group.
    """
    members = defaultdict(lambda: defaultdict(list))
    for index, folder in enumerate(folders):
        sides = _sides(folder, PARTS[index] if len(folders) > 1 else None)
        classes = folder.image_classes or [""] * len(folder.images)
        class_names, class_ids = np.unique(classes, return_inverse=True)
        samples = Samples(folder.path, folder.images, class_ids)
        known_names = class_names.tolist() if folder.by_class else None
        names = name_groups(samples, rule, folder.source, known_names, workers)
        for name, image, side, label in zip(names, folder.images, sides, classes):
            if name and side:
                members[name][side].append((os.path.join(folder.path, image), label))
    for name, by_side in members.items():
        if len(by_side) > 1:
            _add_group(name, by_side, findings)


def _sides(folder, side):
    if side:
        return [side] * len(folder.images)
    if isinstance(folder.images, PackedNames):
        return [PARTS[part] for part in folder.images.column("part")]
    parts = {row.path: row.part for row in read_rows(table_path(folder.source))}
    return [parts.get(image.replace(os.sep, "/")) for image in folder.images]


def _add_group(name, by_side, findings):
    group = next(findings.groups)
    for side, photos in by_side.items():
        path, label = photos[0]
        parts = [("group_here", {"name": name, "count": len(photos)})]
        for other_side, others in by_side.items():
            if other_side != side:
                values = {"count": len(others), "path": others[0][0]}
                parts.append((OTHER_SIDE[other_side], values))
        findings.add("split_group", path, Detail(parts), group, label)


def suggest_rule(folders, val_data, findings):
    """Adds a note where the photos of the source seem to come in series, with a command to type.

    Args:
        folders: as of `check_groups`; no rule is in use.
        val_data: str, the validation data as they were given, or None.
        findings: `findings.Findings`, whose near duplicates count.
    """
    folder = folders[0]
    shown_source = os.path.relpath(folder.source)
    words = ("audit", "--source", shown_source, "--val_data", val_data)
    words = words if val_data else ("split", "--data", shown_source)

    def add(key, rule, **values):
        command = command_line(*words, "--group", rule)
        findings.add("series", folder.source, detail(key, command=command, **values))

    copies = {row["path"] for row in findings.rows if row["kind"] == "near_duplicate"}
    if example := _series_folder(folder):
        add("series_folders", FOLDER, example=example)
    elif series := _counted_series(folder):
        add("series_names", f"pattern:{COUNTED}", count=len(series), example=series[0])
    elif len(copies) >= max(LEAST_COPIES * len(folder.images), 2 * LEAST_OF_SERIES):
        rule = "date" if _has_dates(folder) else "csv:recording"
        key = "series_copies" if rule == "date" else "series_copies_csv"
        add(key, rule, count=len(copies), table=GROUPS)


def _series_folder(folder):
    """A folder within a class that seems to hold a series: most have numbers in their names."""
    if not folder.by_class or folder.is_csv:
        return None
    classes = sorted({name for name in folder.image_classes if "/" in name})
    numbered = [name for name in classes if re.search(r"\d", name.rpartition("/")[2])]
    return numbered[0] if numbered and 2 * len(numbered) > len(classes) else None


def _counted_series(folder):
    """Names of series, where most photos are in one and classes have several; else none."""
    counts = defaultdict(Counter)
    for image, label in zip(folder.images, folder.image_classes or [""] * len(folder.images)):
        match = re.search(COUNTED, image.replace(os.sep, "/"))
        if match and match[1]:
            counts[label][match[1]] += 1
    in_series = {}
    for by_name in counts.values():
        series = {name: count for name, count in by_name.items() if count >= LEAST_OF_SERIES}
        if len(series) >= LEAST_SERIES:
            in_series.update({name: in_series.get(name, 0) + series[name] for name in series})
    return sorted(in_series) if 2 * sum(in_series.values()) > len(folder.images) else []


def _has_dates(folder):
    """Whether most photos say their day, and there are several."""
    step = max(1, len(folder.images) // LOOKED_AT)
    images = folder.images[::step]
    days = [read_capture(os.path.join(folder.path, image)).day for image in images]
    return 2 * days.count("") < len(days) and len({*days} - {""}) > 1
