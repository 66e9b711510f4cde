"""A cross-validation in MLflow: a run for all folds together, and below it a run for each fold."""

import os

from other.folds.outputs import RESULT
from other.folds.plan import ANSWERS, DOUBTFUL, PAGE
from runs.run_folder import MODEL
from runs.tracked_values import TrackedValues, flat_scores, numbers, option_texts, read_values
from runs.tracking import PARENT, send

INTERVALS = ("accuracy", "macro_precision", "macro_recall", "macro_f1")  # scores that have one


def send_folds(store, plan, result, options):
    """Sends all of a cross-validation that is finished.

    Args:
        store: `mlflow_store.MlflowStore`.
        plan: `Plan`, whose runs are trained and whose files are written.
        result: dict, of `--json`.
        options: `CrossvalOptions`.

    Returns:
        str, the id of the run of all folds.

    Raises:
        TrackingError: MLflow does not take it.
    """
    scores = {**numbers(result), **flat_scores({name: result[name] for name in INTERVALS})}
    scores["temperature"] = result["calibration"]["temperature"]
    params = option_texts(options, options.given | {"folds", "seeds", "seed", "backbone"})
    run_id = send(store, plan.folder, TrackedValues(params, [], scores, {}, True))
    for fold in plan.folds:
        run_path = os.path.join(options.save_dir, fold.run_name)
        send(store, run_path, read_values(run_path), tags={PARENT: run_id})
    for name in (PAGE, ANSWERS, DOUBTFUL, RESULT):
        store.add_file(run_id, plan.file(name), "crossval")
    if result["export"]:
        store.add_file(run_id, result["export"]["model"], MODEL)
    return run_id
