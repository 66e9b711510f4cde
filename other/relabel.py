"""Corrects labels: from the report's table, with the class wanted in its column new_label."""

import csv
import itertools
import json
import os
import shlex
import time
from collections import Counter
from typing import NamedTuple

from tqdm import tqdm

from common.console import say
from common.errors import InputError, RunError, first_ten
from common.files import replacing, write_text
from config.parser import nearest
from data.samples import check_labels, read_samples, sample_line, text_file_name
from prediction.classifier import known_labels
from runs import run_folder

COLUMNS = ("path", "label", "new_label")  # a table may have others, which do not count here


class Change(NamedTuple):
    """A label to correct.

    Attributes:
        path: the image, as the table names it.
        label: name of the class that it has.
        new_label: name of the class that it gets.
        text: the text file to rewrite.
        content: what it will hold.
    """

    path: str
    label: str
    new_label: str
    text: str
    content: str


def main(options):
    """`--mode relabel`."""
    run = run_folder.find(options.run, options.save_dir)
    changes, unchanged = read(options.csv, known_labels(run), f"the labels of {run}")
    undo = None
    if changes and not options.dry_run:
        undo = apply(changes, os.path.dirname(os.path.abspath(options.csv)), run)
        say(
            "note: the data have changed, so --resume will refuse runs trained on them; train a "
            "new run"
        )
    if options.json:
        print(
            json.dumps(
                {"changed": len(changes), "unchanged": unchanged, "undo": undo}, ensure_ascii=False
            )
        )
        return
    counts = Counter((change.label, change.new_label) for change in changes)
    for (label, new_label), count in counts.most_common():
        print(f"{count:>8,}  {label} -> {new_label}")
    print(
        f"{'would change' if options.dry_run else 'changed'} {len(changes):,} labels, "
        f"{unchanged:,} rows of the table stay as they are"
    )
    if undo:
        print(f"to undo it: {_command(run, undo)}")


def read(path, labels, labels_path):
    """The changes that a table asks for, each checked against the data; nothing is written.

    Args:
        path: CSV with `COLUMNS`; a row without new_label is left alone, a relative path counts
            from the CSV's folder.
        labels: class names in the order of their ids.
        labels_path: what errors call the place of the names.

    Returns:
        (list of `Change`, the number of rows that ask for none: new_label is empty, or is what
        the text file says already).

    Raises:
        InputError: a column or file is missing, a name is no class, an image has another label
            than the table says, or stands there with two new ones; names the line.
    """
    changes, unchanged, asked, known = [], 0, {}, {}
    numbers = {label: number for number, label in enumerate(labels)}
    for place, row in _rows(path):
        new_label = _name(row["new_label"], numbers)
        if not new_label:
            unchanged += 1
            continue
        for column, name in (("label", row["label"]), ("new_label", new_label)):
            if name not in numbers:
                raise InputError(
                    f"{place}: {column} is {name!r}, which is no class of {labels_path}; allowed: "
                    f"{first_ten(labels)}{nearest(name, labels)}"
                )
        if "\0" in row["path"]:
            raise InputError(f"{path}: {row['path']!r} is not a path")
        image = os.path.join(os.path.dirname(os.path.abspath(path)), row["path"])
        folder, name = os.path.split(image)
        folder = os.path.realpath(folder)
        if folder not in known:
            known[folder] = _current(folder, labels, labels_path, place)
        if name not in known[folder]:
            raise InputError(f"{place}: {row['path']!r} is no image file of its folder")
        before = asked.setdefault((folder, name), (new_label, place))
        if before[0] != new_label:
            raise InputError(
                f"{place}: {row['path']!r} is to be {new_label!r}, in {before[1]} {before[0]!r}; "
                "one new label an image"
            )
        current = labels[known[folder][name]]
        if current == new_label or before[1] != place:
            unchanged += 1
        elif current != row["label"]:
            raise InputError(
                f"{place}: {row['path']!r} has the label {current!r} now, not {row['label']!r}: it "
                "was changed since the table was made; make the report again"
            )
        else:
            text = text_file_name(image)
            changes.append(
                Change(row["path"], current, new_label, text, sample_line(name, numbers[new_label]))
            )
    for folder in sorted({os.path.dirname(change.text) for change in changes}):
        if not os.access(folder, os.W_OK):
            raise InputError(f"{folder}: cannot be written to; no label was changed")
    return changes, unchanged


def apply(changes, folder, run):
    """Rewrites the text files, after leaving a table that takes it all back.

    Args:
        changes: as `read` gives them.
        folder: where the undo file goes.
        run: path of the run, for a message.

    Returns:
        path of the undo file, relabeled-DATE-TIME.csv: a table for this mode, with the labels
        the other way round.

    Raises:
        InputError: the undo file cannot be written; no label was changed.
        RunError: a text file cannot be written; says which labels were changed.
    """
    undo = _free(os.path.join(folder, f"relabeled-{time.strftime('%Y%m%d-%H%M%S')}"))
    try:
        with (
            replacing(undo) as partial,
            open(partial, "w", encoding="utf-8", errors="surrogateescape", newline="") as file,
        ):
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows((each.path, each.new_label, each.label) for each in changes)
    except OSError as error:
        raise InputError(
            f"--csv: {undo}, which would undo the changes, cannot be written: {error.strerror}; no "
            "label was changed"
        ) from None
    say(f"undo file: {undo}")
    bar = tqdm(changes, "relabelling", unit=" labels", leave=False, disable=None)
    for done, change in enumerate(bar):
        try:
            # Through a link its file is written, and the link stays.
            write_text(os.path.realpath(change.text), change.content)
        except OSError as error:
            names = first_ten(each.path for each in changes[:done]) or "none"
            raise RunError(
                f"{change.text}: cannot be written: {error.strerror}; {done} of {len(changes)} "
                f"labels were changed: {names}; the same command goes on, and "
                f"{_command(run, undo)} takes them back"
            ) from None
    return undo


def _rows(path):
    """(place, row) of each line of the table."""
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.DictReader(file)
            header = reader.fieldnames or []
            missing = [name for name in COLUMNS if name not in header]
            if missing:
                raise InputError(
                    f"{path}:1: has no column {', '.join(missing)}; needed are "
                    f"{', '.join(COLUMNS)}, separated by commas, as --mode report writes them"
                )
            for row in reader:
                place = f"{path}:{reader.line_num}"
                if any(row[name] is None for name in COLUMNS):
                    raise InputError(f"{place}: has fewer values than the line of column names")
                yield place, row
    except OSError as error:
        raise InputError(f"--csv: {path}: cannot be read: {error.strerror}") from None
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: is not CSV: {error}") from None


def _name(text, numbers):
    """What is written in a cell, without the spaces around it unless they are the class's own."""
    return text if text in numbers else text.strip()


def _current(folder, labels, labels_path, place):
    """The class id of each image of a folder, by file name."""
    try:
        check_labels(folder, labels, labels_path)
        samples = read_samples(folder, labels, labels_path)
    except InputError as error:
        raise InputError(f"{place}: {error}") from None
    return dict(zip(samples.file_names, samples.class_ids))


def _command(run, table):
    return shlex.join(["python", "run.py", "--mode", "relabel", "--run", run, "--csv", table])


def _free(stem):
    """A CSV's path that no file has: two corrections may fall into one second."""
    for suffix in itertools.chain([""], (f"-{number}" for number in itertools.count(2))):
        if not os.path.lexists(f"{stem}{suffix}.csv"):
            return f"{stem}{suffix}.csv"
