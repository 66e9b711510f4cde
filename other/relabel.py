"""Corrects labels: from the report's table, with the correct class in its column new_label."""

import itertools
import os
import shlex
import time
from collections import Counter
from typing import NamedTuple

from tqdm import tqdm

from common import console
from common.errors import InputError, RunError, first_ten, nearest
from common.files import write_text
from common.tables import read_table, write_table
from common.write_errors import write_error
from config.mode_options import RelabelOptions
from data.label_names import check_labels
from data.samples import read_samples, sample_line, text_file_name
from prediction.classifier import known_labels
from runs import run_folder

COLUMNS = ("path", "label", "new_label")  # a table may have others, which are ignored
NOTE = "note: the data have changed, so --resume will refuse runs trained on them; train a new run"


class Change(NamedTuple):
    """A label to correct.

    Attributes:
        path: str, the image, as the table names it.
        label: str, name of the class that it has.
        new_label: str, name of the class that it gets.
        text: str, path of the text file to rewrite.
        content: str, what the text file will hold.
    """

    path: str
    label: str
    new_label: str
    text: str
    content: str


def main(options: RelabelOptions):
    """`--mode relabel`."""
    run = run_folder.find(options.run, options.save_dir)
    changes, unchanged = read(options.csv, known_labels(run), f"the labels of {run}")
    undo_table = None
    if changes and not options.dry_run:
        undo_table = apply(changes, os.path.dirname(os.path.abspath(options.csv)), run)
        console.say(NOTE)
    console.show(
        {"changed": len(changes), "unchanged": unchanged, "undo": undo_table},
        lambda result: _text(result, changes, run, options.dry_run),
        options.json,
    )


def read(path, class_names, labels_path):
    """The changes that a table asks for, each checked against the data; nothing is written.

    Args:
        path: str, a CSV with `COLUMNS`; a row without new_label is ignored, a relative path is
            relative to the CSV's folder.
        class_names: list or tuple of str, in the order of their ids.
        labels_path: str, what errors call the place of the names.

    Returns:
        (list of `Change`, the number of rows that ask for none: new_label is empty, or is what
        the text file says already).

    Raises:
        InputError: a column or file is missing, a name is not a class, an image has another
            label than the table says, or appears with two new ones; names the line.
    """
    changes, unchanged, requests, known_ids = [], 0, {}, {}
    ids_by_name = {name: class_id for class_id, name in enumerate(class_names)}
    table_folder = os.path.dirname(os.path.abspath(path))
    for location, row in read_table(path, COLUMNS, "report"):
        new_label = _class_name(row["new_label"], ids_by_name)
        if not new_label:
            unchanged += 1
            continue
        _check_row(row, new_label, class_names, labels_path, location)
        image_path = os.path.join(table_folder, row["path"])
        folder, file_name = os.path.split(image_path)
        folder = os.path.realpath(folder)
        _check_has_text(image_path, row["path"], new_label, location)
        if folder not in known_ids:
            known_ids[folder] = _read_class_ids(folder, class_names, labels_path, location)
        if file_name not in known_ids[folder]:
            raise InputError(f"{location}: {row['path']!r} is no image file of its folder")
        first_request = requests.setdefault((folder, file_name), (new_label, location))
        if first_request[0] != new_label:
            raise InputError(
                f"{location}: {row['path']!r} is to be {new_label!r}, in {first_request[1]} "
                f"{first_request[0]!r}; one new label per image is allowed"
            )
        current_label = class_names[known_ids[folder][file_name]]
        if current_label == new_label or first_request[1] != location:
            unchanged += 1
        elif current_label != row["label"]:
            raise InputError(
                f"{location}: {row['path']!r} has the label {current_label!r} now, not "
                f"{row['label']!r}: it was changed since the table was made; make the report again"
            )
        else:
            line = sample_line(file_name, ids_by_name[new_label])
            text_path = text_file_name(image_path)
            changes.append(Change(row["path"], current_label, new_label, text_path, line))
    for folder in sorted({os.path.dirname(change.text) for change in changes}):
        if not os.access(folder, os.W_OK):
            raise InputError(f"{folder}: cannot be written to; no label was changed")
    return changes, unchanged


def _check_has_text(image_path, written_path, new_label, location):
    """Refuses an image whose class its folder or a CSV says."""
    if os.path.exists(image_path) and not os.path.exists(text_file_name(image_path)):
        raise InputError(
            f"{location}: {written_path!r} has no label file (.txt) that could be changed; move "
            f"the image to the folder of {new_label!r}, or correct the CSV that names its class"
        )


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


def _read_class_ids(folder, class_names, labels_path, location):
    """The class id of each image of a folder, by file name."""
    try:
        check_labels(folder, class_names, labels_path)
        samples = read_samples(folder, class_names, labels_path)
    except InputError as error:
        raise InputError(f"{location}: {error}") from None
    return dict(zip(samples.file_names, samples.class_ids))


def apply(changes, folder, run):
    """Rewrites the text files, after writing a table that undoes it.

    Args:
        changes: list of `Change`, from `read`.
        folder: str, where the undo table goes.
        run: str, path of the run, for a message.

    Returns:
        str, path of the undo table, relabeled-DATE-TIME.csv: a table for `read` with the labels
        swapped.

    Raises:
        InputError: the undo table cannot be written; no label was changed.
        RunError: a text file cannot be written; names the labels that were changed.
    """
    undo_table = _write_undo_table(changes, folder)
    console.say(f"undo file: {undo_table}")
    bar = tqdm(changes, "relabelling", unit=" labels", leave=False, disable=None)
    for changed_count, change in enumerate(bar):
        try:
            # Through a link the file that it leads to is written, and the link stays.
            write_text(os.path.realpath(change.text), change.content)
        except OSError as error:
            changed = first_ten(change.path for change in changes[:changed_count]) or "none"
            raise RunError(
                f"{change.text}: cannot be written: {error.strerror}; {changed_count} of "
                f"{len(changes)} labels were changed: {changed}; the same command continues, and "
                f"{_command(run, undo_table)} undoes them"
            ) from None
    return undo_table


def _write_undo_table(changes, folder):
    """Writes a table that `read` takes and that reverses the changes; returns its path."""
    path = _free(os.path.join(folder, f"relabeled-{time.strftime('%Y%m%d-%H%M%S')}"))
    swapped_rows = [(change.path, change.new_label, change.label) for change in changes]
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


def _command(run, table):
    return shlex.join(["python", "run.py", "--mode", "relabel", "--run", run, "--csv", table])


def _text(result, changes, run, dry_run):
    """The result as text: how often each label was replaced by each other one."""
    counts = Counter((change.label, change.new_label) for change in changes)
    lines = [
        f"{count:>8,}  {label} -> {new_label}" for (label, new_label), count in counts.most_common()
    ]
    lines.append(
        f"{'would change' if dry_run else 'changed'} {result['changed']:,} labels, "
        f"{result['unchanged']:,} rows of the table stay as they are"
    )
    if result["undo"]:
        lines.append(f"to undo it: {_command(run, result['undo'])}")
    return "\n".join(lines)
