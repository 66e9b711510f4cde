"""The report's table of doubtful labels, which `other/relabel.py` reads back."""

import csv
import os
import time

from common.console import say
from common.errors import InputError
from common.tables import READING, write_table

COLUMNS = (
    "path",
    "label",
    "suggested",
    "probability_of_label",
    "probability_of_suggested",
    "how",
    "new_label",
)


def write(table_path, suspects, answers):
    """Writes the table, most doubtful labels first; an earlier one that was filled in is kept.

    Args:
        table_path: str, the CSV.
        suspects: list of `label_errors.Suspect`.
        answers: `other.report.Answers`.

    Raises:
        OSError: it cannot be written.
    """
    samples, class_names, probabilities, *_ = answers
    folder = os.path.abspath(samples.folder)
    table_rows = []
    for suspect in suspects:
        class_id = samples.class_ids[suspect.position]
        image_path = os.path.join(folder, samples.file_names[suspect.position])
        both_classes = [class_id, suspect.suggested]
        label_names = [class_names[name_id] for name_id in both_classes]
        label_probabilities = [f"{p:.6g}" for p in probabilities[suspect.position][both_classes]]
        table_rows.append([image_path, *label_names, *label_probabilities, suspect.how, ""])
    _keep_filled_in(table_path)
    write_table(table_path, COLUMNS, table_rows)


def check_replaceable(table_path, target):
    """Refuses to write the table over a file that is not a table of doubtful labels.

    Args:
        table_path: str, the CSV.
        target: str, the report's page, which errors name.

    Raises:
        InputError: another file has the table's name.
    """
    try:
        with open(table_path, **READING) as table_file:
            header_line = table_file.readline()
    except OSError:
        return
    if "new_label" not in header_line:
        raise InputError(
            f"--target: {target}: the table beside it would replace {table_path}, which is "
            "not a table of doubtful labels; choose another name"
        )


def _keep_filled_in(table_path):
    """Renames an earlier table in which somebody has filled in new labels."""
    try:
        with open(table_path, **READING) as table_file:
            reader = csv.DictReader(table_file)
            # A different header: a table of something else, or one that a spreadsheet has changed
            is_filled_in = tuple(reader.fieldnames or ()) != COLUMNS or any(
                (row["new_label"] or "").strip() for row in reader
            )
    except FileNotFoundError:
        return
    if is_filled_in:
        kept_path = f"{table_path.removesuffix('.csv')}-{time.strftime('%Y%m%d-%H%M%S')}.csv"
        os.replace(table_path, kept_path)
        say(f"note: the earlier table, with new labels filled in, is kept as {kept_path}")
