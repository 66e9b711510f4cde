"""What a cross-validation leaves to read: the page, the table of answers, the doubtful labels."""

import json
import os
import time

import numpy as np

from common.commands import command_line
from common.files import write_text
from common.tables import write_table
from common.write_errors import write_error
from config.next_steps import next_step
from data.photo_files import absolute
from evaluation.confusion import NO_ANSWER
from evaluation.label_errors import cannot_judge
from other.folds.plan import ANSWERS, DOUBTFUL, PAGE
from other.folds.scores import predict
from other.report import Answers
from other.reporting import doubtful_labels, report_gallery
from pages.languages import choose_language
from pages.rendering import render
from runs.predictions_table import COLUMNS

RESULT = "result.json"  # what --json prints


def write(plan, out_of_fold, suspects, result, options):
    """Writes the page and the tables.

    Args:
        plan: `Plan`.
        out_of_fold: `OutOfFold`.
        suspects: list of `label_errors.Suspect`.
        result: dict, of `--json`.
        options: `CrossvalOptions`.

    Raises:
        InputError: they cannot be written.
        RunError: the disk is full.
    """
    probabilities = out_of_fold.probabilities.mean(axis=0)
    answers = Answers(
        plan.samples, plan.class_names, probabilities, predict(probabilities), out_of_fold.errors
    )
    page = render(
        "crossval.html",
        choose_language(options.lang),
        result=result,
        name=plan.name,
        data=options.data,
        date=time.strftime("%Y-%m-%d %H:%M"),
        cards=report_gallery.doubtful(suspects, answers),
        can_judge=not cannot_judge(result["accuracy"]["value"]),
        kind=options.export,
        relabel=relabel_command(plan, options),
        next=command_line(*next_step("crossval", options, result)),
        files={"answers": ANSWERS, "doubtful": DOUBTFUL},
    )
    try:
        _write_answers(plan, out_of_fold, answers)
        doubtful_labels.write(plan.file(DOUBTFUL), suspects, answers)
        write_text(plan.file(RESULT), json.dumps(result, indent=1) + "\n")
        write_text(plan.file(PAGE), page)
    except OSError as error:
        raise write_error(error, plan.folder, "--save_dir") from None


def relabel_command(plan, options):
    """str, the command that corrects labels from the table of doubtful ones.

    Args:
        plan: `Plan`.
        options: `CrossvalOptions`.
    """
    run_path = os.path.join(options.save_dir, plan.folds[0].run_name)
    words = ["relabel", "--run", run_path, "--csv", plan.file(DOUBTFUL)]
    return command_line(*words, *(["--data", options.data] if os.path.isfile(options.data) else []))


def _write_answers(plan, out_of_fold, answers):
    """One row per photo; its columns begin with those of eval.csv."""
    folder = absolute(plan.samples.folder)
    names = plan.class_names
    columns = (*COLUMNS, "fold", "group", *(f"probability of {name}" for name in names))
    _, group_numbers = np.unique(plan.groups, return_inverse=True)
    rows = []
    for position, file_name in enumerate(plan.samples.file_names):
        predicted, row = answers.predicted[position], answers.probabilities[position]
        is_answered = predicted != NO_ANSWER
        error = "" if is_answered else out_of_fold.errors[position].reason
        rows.append(
            (
                os.path.join(folder, file_name),
                names[plan.samples.class_ids[position]],
                *((names[predicted], f"{row[predicted]:.6g}") if is_answered else ("", "")),
                error,
                " ".join(str(fold + 1) for fold in plan.assigned[:, position]),
                group_numbers[position] + 1,
                *(f"{value:.6g}" if is_answered else "" for value in row),
            )
        )
    write_table(plan.file(ANSWERS), columns, rows)
