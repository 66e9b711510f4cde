"""Corrects labels: from the report's table, with the correct class in its column new_label."""

import itertools
import os
import time
from collections import Counter

from tqdm import tqdm

from common import console
from common.commands import command_line
from common.errors import InputError, RunError, first_ten, nearest
from common.tables import read_table, write_table
from common.write_errors import write_error
from config.mode_options import RelabelOptions
from data import label_places
from data.label_places import LabelPlaces
from prediction.classifier import known_labels
from runs import run_folder

COLUMNS = ("path", "label", "new_label")  # a table may have others, which are ignored
NOTE = "note: the data have changed, so --resume will refuse runs trained on them; train a new run"


def main(options: RelabelOptions):
    """`--mode relabel`."""
    run = run_folder.find(options.run, options.save_dir)
    changes, unchanged = read(options.csv, known_labels(run), f"the labels of {run}", options.data)
    undo_table = None
    if changes and not options.dry_run:
        table_folder = os.path.dirname(os.path.abspath(options.csv))
        undo_table = apply(changes, table_folder, run, options.data)
        console.say(NOTE)
    console.show(
        {"changed": len(changes), "unchanged": unchanged, "undo": undo_table},
        lambda result: _text(result, changes, options, run),
        options.json,
    )


def read(path, class_names, labels_path, data=None):
    """The changes that a table asks for, each checked against the data; nothing is written.

    Args:
        path: str, a CSV with `COLUMNS`; a row without new_label is ignored, a relative path is
            relative to the CSV's folder.
        class_names: list or tuple of str, in the order of their ids.
        labels_path: str, what errors call the place of the names.
        data: str, the data set; only a CSV is looked at, which then says the labels.

    Returns:
        (list of `label_places.Change`, the number of rows that ask for none: new_label is empty,
        or the image has it already).

    Raises:
        InputError: a column or file is missing, a name is not a class, an image has another
            label than the table says, or appears with two new ones; names the line.
    """
    changes, unchanged, requests = [], 0, {}
    csv_path = data if data and data.lower().endswith(".csv") else None
    places = LabelPlaces(class_names, labels_path, csv_path)
    table_folder = os.path.dirname(os.path.abspath(path))
    for location, row in read_table(path, COLUMNS, "report"):
        new_label = _class_name(row["new_label"], places.ids_by_name)
        if not new_label:
            unchanged += 1
            continue
        _check_row(row, new_label, class_names, labels_path, location)
        image_path = os.path.join(table_folder, row["path"])
        folder, file_name = os.path.split(image_path)
        request = os.path.realpath(folder), file_name
        first_request = requests.setdefault(request, (new_label, location))
        if first_request[0] != new_label:
            raise InputError(
                f"{location}: {row['path']!r} is to be {new_label!r}, in {first_request[1]} "
                f"{first_request[0]!r}; one new label per image is allowed"
            )
        is_first = first_request[1] == location
        change = is_first and places.plan(
            image_path, row["label"], new_label, location, row["path"]
        )
        if change:
            changes.append(change)
        else:
            unchanged += 1
    _check_writable(changes)
    return changes, unchanged


def _check_writable(changes):
    """Refuses folders that cannot be written to, before anything is."""
    folders = {os.path.dirname(os.path.abspath(change.target)) for change in changes}
    folders |= {os.path.dirname(os.path.abspath(change.image)) for change in changes}
    for folder in sorted(folder for folder in folders if os.path.exists(folder)):
        if not os.access(folder, os.W_OK):
            raise InputError(f"{folder}: cannot be written to; no label was changed")


def _check_row(row, new_label, class_names, labels_path, location):
    """Refuses a row whose labels are no classes or whose path is none."""
    for column, name in (("label", row["label"]), ("new_label", new_label)):
        if name not in class_names:
            raise InputError(
                f"{location}: {column} is {name!r}, which is no class of {labels_path}; allowed: "
                f"{first_ten(class_names)}{nearest(name, class_names)}"
            )
    if "\0" in row["path"]:
        raise InputError(f"{location}: {row['path']!r} is not a path")


def _class_name(cell, ids_by_name):
    """The name in a cell, without the spaces around it unless they are part of the name."""
    return cell if cell in ids_by_name else cell.strip()


def apply(changes, folder, run, data=None):
    """Changes the labels where they are written, after writing a table that undoes it.

    Args:
        changes: list of `label_places.Change`, from `read`.
        folder: str, where the undo table goes.
        run: str, path of the run, for a message.
        data: str, as of `read`, likewise.

    Returns:
        str, path of the undo table, relabeled-DATE-TIME.csv: a table for `read` with the labels
        swapped.

    Raises:
        InputError: the undo table cannot be written; no label was changed.
        RunError: a label cannot be written; names those that were changed.
    """
    undo_table = _write_undo_table(changes, folder)
    console.say(f"undo file: {undo_table}")
    changed_count = 0
    with tqdm(changes, "relabelling", unit=" labels", leave=False, disable=None) as bar:
        try:
            for changed_count in label_places.apply_all(changes):
                bar.update(changed_count - bar.n)
        except OSError as error:
            changed = first_ten(change.path for change in changes[:changed_count]) or "none"
            raise RunError(
                f"{changes[changed_count].target}: cannot be written: {error.strerror}; "
                f"{changed_count} of {len(changes)} labels were changed: {changed}; the same "
                f"command continues, and {_command(run, undo_table, data)} undoes them"
            ) from None
    return undo_table


def _write_undo_table(changes, folder):
    """Writes a table that `read` takes and that reverses the changes; returns its path."""
    path = _free(os.path.join(folder, f"relabeled-{time.strftime('%Y%m%d-%H%M%S')}"))
    swapped_rows = [
        (
            change.path if change.new_image == change.image else os.path.abspath(change.new_image),
            change.new_label,
            change.label,
        )
        for change in changes
    ]
    try:
        write_table(path, COLUMNS, swapped_rows)
    except OSError as error:
        problem = write_error(error, f"{path}, which would undo the changes,", "--csv")
        raise type(problem)(f"{problem}; no label was changed") from None
    return path


def _free(stem):
    """The path of a CSV that does not exist yet: two corrections may happen in one second."""
    for suffix in itertools.chain([""], (f"-{number}" for number in itertools.count(2))):
        if not os.path.lexists(f"{stem}{suffix}.csv"):
            return f"{stem}{suffix}.csv"


def _command(run, table, data):
    words = ["relabel", "--run", run, "--csv", table]
    return command_line(*words, *(["--data", data] if data else []))


def _text(result, changes, options, run):
    """The result as text: how often each label was replaced by each other one."""
    counts = Counter((change.label, change.new_label) for change in changes)
    lines = [
        f"{count:>8,}  {label} -> {new_label}" for (label, new_label), count in counts.most_common()
    ]
    lines.append(
        f"{'would change' if options.dry_run else 'changed'} {result['changed']:,} labels, "
        f"{result['unchanged']:,} rows of the table stay as they are"
    )
    if result["undo"]:
        lines.append(f"to undo it: {_command(run, result['undo'], options.data)}")
    return "\n".join(lines)
