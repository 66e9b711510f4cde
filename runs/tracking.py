"""A run's track in MLflow: which one it is, and bringing it up to date with the run's folder.

Everything is read from the folder. So what a server could not take goes with the next command
that has `--track`, and nothing is sent twice.
"""

import json
import os

from common.console import say, waiting
from common.errors import InputError
from common.files import write_text
from runs import run_folder
from runs.mlflow_store import Track, TrackingError, open_store
from runs.results import COLUMNS
from runs.tracked_values import profile, read_values

COMPARED = "val_loss"  # by it an epoch is known that has been sent
PARENT = "mlflow.parentRunId"
RUNNING, FINISHED = "RUNNING", "FINISHED"


def open_asked(track, path):
    """Opens MLflow where --track asks for it.

    Args:
        track: str, "mlflow", or None.
        path: str, the folder of the run, which need not exist.

    Returns:
        `mlflow_store.MlflowStore`, or None.

    Raises:
        InputError: MLflow is not installed, or does not answer as it should; or the folder is an
            exported model.
    """
    if not track:
        return None
    if run_folder.is_exported(path):
        raise InputError(f"--track: {path} is an exported model, which has no track; name its run")
    return open_store(os.path.dirname(os.path.abspath(path)))


def send(store, folder, values, status=None, tags=None):
    """Brings a track up to date, and begins it where there is none.

    Args:
        store: `mlflow_store.MlflowStore`.
        folder: str, the run's folder, whose tracking.json names the track.
        values: `tracked_values.TrackedValues`.
        status: str, how the run goes; None says only that it is finished, where it is.
        tags: dict of name -> str.

    Returns:
        str, the id of the track.

    Raises:
        TrackingError: MLflow does not take it.
    """
    run_id, track, tags = *_find(store, folder), tags or {}
    if track is None:
        run_id = store.create(os.path.basename(os.path.abspath(folder)), tags)
        track = Track({}, {}, tags, RUNNING, set())
        record = {"mlflow": store.address, "experiment": store.experiment_id, "run_id": run_id}
        write_text(os.path.join(folder, run_folder.TRACKING), json.dumps(record, indent=1) + "\n")
    for context, data in values.data.items():
        if context not in track.data_contexts:
            source = json.dumps({"uri": data.source}, ensure_ascii=False)
            store.add_data(run_id, context, data.name, data.digest, source, profile(data))
    sent = store.read_steps(run_id, COMPARED) if values.epochs else {}
    # An option that was sent stays as it is in MLflow: what a resumed training changed is a tag.
    new_params = {name: text for name, text in values.params.items() if name not in track.params}
    changed = {
        f"changed.{name}": text
        for name, text in values.params.items()
        if track.params.get(name, text) != text
    }
    new_tags = {
        name: text
        for name, text in {**tags, **changed, **_trained_again(values, sent)}.items()
        if track.tags.get(name) != text
    }
    metrics = [
        (name, row[name], int(row["epoch"]))
        for row in values.epochs
        if int(row["epoch"]) not in sent
        for name in COLUMNS[1:]
    ]
    metrics += [
        (name, value, 0)
        for name, value in values.scores.items()
        if track.metrics.get(name) != value
    ]
    store.log(run_id, metrics, new_params, new_tags)
    status = status or (FINISHED if values.is_finished else track.status)
    if status != track.status:
        store.set_status(run_id, status)
    return run_id


def _trained_again(values, sent):
    """A tag for epochs of which MLflow keeps what a training before the last resuming had."""
    epochs = [
        str(int(row["epoch"]))
        for row in values.epochs
        if sent.get(int(row["epoch"]), row[COMPARED]) != row[COMPARED]
    ]
    return {"epochs_trained_again": ", ".join(epochs)} if epochs else {}


def _find(store, folder):
    """(str, `Track`) of a folder's tracking.json; (None, None) where this MLflow has none."""
    try:
        with open(os.path.join(folder, run_folder.TRACKING), encoding="utf-8") as json_file:
            record = json.load(json_file)
        if record["mlflow"] != store.address:
            return None, None
        run_id = record["run_id"]
    except (OSError, ValueError, KeyError, TypeError):
        return None, None
    return run_id, store.read(run_id)


def send_with_files(store, run_path, files, scores=None, tags=None):
    """Brings a run's track up to date and sends files with it.

    Args:
        store: `mlflow_store.MlflowStore`.
        run_path: str, the run's folder.
        files: list of (path of a file or folder here, folder there).
        scores: dict of name -> float, besides those of the run.
        tags: dict of name -> str.

    Returns:
        str, the id of the track.

    Raises:
        TrackingError: MLflow does not take it.
    """
    values = read_values(run_path)
    values = values._replace(scores={**values.scores, **(scores or {})})
    run_id = send(store, run_path, values, tags=tags)
    for path, folder in files:
        store.add_file(run_id, path, folder)
    return run_id


def deliver(store, transfer):
    """Sends something when the work is done, which a server must not spoil; says so in a line.

    Args:
        store: `mlflow_store.MlflowStore`.
        transfer: function that sends and gives the id of the track.

    Returns:
        dict, what `--json` says of it: mlflow, run_id, and missing, why MLflow lacks something,
        or None.
    """
    run_id = missing = None
    try:
        with waiting("sending to MLflow"):
            run_id = transfer()
        say(f"sent to MLflow {store.address}, run {run_id}")
    except TrackingError as error:
        missing = str(error)
        say(f"note: {missing}; everything is here, and the same command sends it again")
    return {"mlflow": store.address, "run_id": run_id, "missing": missing}
