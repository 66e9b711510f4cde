"""Checkpoints, each complete or absent, and resuming from the newest that is whole.

One file holds every variable of model and optimizer, the states of random layers, the
metrics of an unfinished epoch and what the training loop knows, so that no two of them can
disagree. It is a NumPy archive of plain arrays, read without pickle, followed by its SHA-256.
Its name says how far it is: `EPOCHS-STEPS.npz`, complete epochs and steps into the next. The
last two are kept.
"""

import contextlib
import hashlib
import json
import os
import re
import zipfile
from typing import NamedTuple

import numpy as np

from common.errors import DivergedError, InputError
from common.files import replacing
from runs.training_state import TrainingState

KEPT = 2
NAME = re.compile(r"(\d{5,})-(\d{7,})\.npz")
METRICS = "metrics/"  # before the names of their arrays
HASH_BYTES = hashlib.sha256().digest_size


class Checkpoint(NamedTuple):
    """A checkpoint that has been read through and is whole.

    Attributes:
        path: str, its file.
        epochs: int, complete epochs.
        steps: int, steps into the next epoch.
        state: `TrainingState`.
    """

    path: str
    epochs: int
    steps: int
    state: TrainingState


def save(folder, epochs, steps, model, optimizer, metric_values, state):
    """Writes a checkpoint and removes those before the last two.

    Args:
        folder: str, the run's `checkpoint/`, made if missing in the run's folder.
        epochs: int, complete epochs.
        steps: int, steps into the next epoch.
        model: a Keras model.
        optimizer: the one that trains it, or a part of it, with its variables built.
        metric_values: dict of path -> array, the variables of the metrics of an unfinished epoch.
        state: `TrainingState`.

    Returns:
        str, path of the file.

    Raises:
        DivergedError: a variable is NaN or infinite; nothing is written.
        OSError: the file cannot be written; those before are untouched.
    """
    arrays = {METRICS + path: value for path, value in metric_values.items()}
    for index, variable in enumerate(_variables(model, optimizer)):
        arrays[f"{index:05}"] = array = np.asarray(variable)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DivergedError(
                f"{variable.path} became NaN or infinite; a lower --learning_rate usually helps"
            )
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder)  # not its parents: a run that was removed does not come back
    checkpoint_path = os.path.join(folder, f"{epochs:05}-{steps:07}.npz")
    with replacing(checkpoint_path) as partial_path:
        with open(partial_path, "wb") as archive:
            np.savez(archive, state=np.array(json.dumps(state.to_json())), **arrays)
        with open(partial_path, "r+b") as archive:
            digest = hashlib.file_digest(archive, "sha256").digest()
            archive.write(digest)  # at the end, where reading has stopped
    for _, old_path in _checkpoint_files(folder)[:-KEPT]:
        os.unlink(old_path)
    for file_name in os.listdir(folder):
        if file_name.startswith(".partial-"):  # of a process that was killed
            os.unlink(os.path.join(folder, file_name))
    return checkpoint_path


def newest(folder, report):
    """The newest whole checkpoint of a folder.

    Args:
        folder: str, a run's `checkpoint/`.
        report: function called with one line for each file that is damaged.

    Returns:
        `Checkpoint`, or None where there is no file at all.

    Raises:
        InputError: there are files, all damaged.
    """
    first_error = None
    for (epochs, steps), checkpoint_path in reversed(_checkpoint_files(folder)):
        try:
            state = _read_state(checkpoint_path)
        except InputError as error:
            report(f"note: {error}")
            first_error = first_error or error
            continue
        return Checkpoint(checkpoint_path, epochs, steps, state)
    if first_error:
        raise InputError(f"{first_error}; no other checkpoint is left")
    return None


def load(checkpoint_path, model, optimizer):
    """Sets every variable of model and optimizer to those of a checkpoint.

    Args:
        checkpoint_path: str, a file that `newest` has read through.
        model: a Keras model, built like the one that was saved.
        optimizer: its optimizer, with its variables built.

    Returns:
        dict of path -> array, the `metric_values` that `save` was given.

    Raises:
        InputError: the file belongs to another model.
    """
    variables = _variables(model, optimizer)
    with np.load(checkpoint_path, allow_pickle=False) as arrays:
        array_names = [f"{index:05}" for index in range(len(variables))]
        metric_names = [name for name in arrays.files if name.startswith(METRICS)]
        fits = {*array_names, *metric_names, "state"} == set(arrays.files) and all(
            arrays[name].shape == tuple(variable.shape)
            for name, variable in zip(array_names, variables)
        )
        if not fits:
            raise InputError(f"{checkpoint_path}: belongs to another model")
        for name, variable in zip(array_names, variables):
            variable.assign(arrays[name])
        return {name.removeprefix(METRICS): arrays[name] for name in metric_names}


def _variables(model, optimizer):
    # model.variables, unlike model.weights, has the states of random layers.
    return [*model.variables, *optimizer.variables]


def _checkpoint_files(folder):
    """((epochs, steps), path) of the checkpoints of a folder, the oldest first."""
    try:
        file_names = os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {error.strerror}") from None
    matches = [match for match in map(NAME.fullmatch, file_names) if match]
    return sorted(
        (tuple(map(int, match.groups())), os.path.join(folder, match[0])) for match in matches
    )


def _read_state(checkpoint_path):
    """The `TrainingState` in a file whose content is what was written; else an InputError."""
    try:
        with open(checkpoint_path, "rb") as archive:
            bytes_left = max(0, os.fstat(archive.fileno()).st_size - HASH_BYTES)
            digest = hashlib.sha256()
            while bytes_left and (block := archive.read(min(bytes_left, 1 << 20))):
                digest.update(block)
                bytes_left -= len(block)
            if archive.read() != digest.digest():
                raise InputError(
                    f"{checkpoint_path}: is damaged: its checksum does not match its content"
                )
        with np.load(checkpoint_path, allow_pickle=False) as arrays:
            return TrainingState.from_json(json.loads(str(arrays["state"])))
    except OSError as error:
        raise InputError(f"{checkpoint_path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, zipfile.BadZipFile) as error:  # whole, but something else
        raise InputError(f"{checkpoint_path}: is damaged: {error}") from None
