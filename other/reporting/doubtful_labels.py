"""The report's table of doubtful labels, which `other/relabel.py` reads back."""

import csv
import os
import time

from common.console import say
from common.errors import InputError
from common.tables import READING, write_table
from data import label_journal

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


def leave_out_confirmed(suspects, samples, class_names, data):
    """Leaves out labels that somebody has confirmed on the page of --mode label, and says so.

    Args:
        suspects: list of `label_errors.Suspect`.
        samples: `samples.Samples` that they are of.
        class_names: sequence of str.
        data: str, the folder or CSV file of the samples.

    Returns:
        list of `label_errors.Suspect`.

    Raises:
        InputError: the journal of the labels is damaged.
    """
    positions = [suspect.position for suspect in suspects]
    paths = [os.path.join(samples.folder, samples.file_names[i]) for i in positions]
    labels = [class_names[samples.class_ids[i]] for i in positions]
    log_path = label_journal.path_beside(data)
    is_confirmed = label_journal.find_confirmed(log_path, paths, labels)
    if is_confirmed.any():
        say(
            f"note: {is_confirmed.sum()} of {len(suspects)} doubtful labels are left out, because "
            f"{log_path} says that somebody has confirmed them"
        )
    return [suspect for suspect, skipped in zip(suspects, is_confirmed) if not skipped]


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
