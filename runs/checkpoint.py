"""Checkpoints, each complete or absent, and going on from the newest that is whole.

One file holds every variable of model and optimizer, the states of random layers, the
metrics of an epoch under way and what the training loop knows, so that no two of them can
disagree. It is a NumPy archive of plain arrays, read without pickle, with the SHA-256 of
all that behind it. Its name tells how far it is: `EPOCHS-STEPS.npz`, complete epochs and
steps into the next. The last two are kept.
"""

import contextlib
import hashlib
import json
import os
import re
import zipfile
from typing import Any, NamedTuple

import numpy as np

from common.errors import DivergedError, InputError
from common.files import replacing

KEPT = 2
NAME = re.compile(r"(\d{5,})-(\d{7,})\.npz")
METRICS = "metrics/"  # before the names of their arrays
HASH_BYTES = hashlib.sha256().digest_size


class Checkpoint(NamedTuple):
    """A checkpoint that has been read through and is whole.

    Attributes:
        path: its file.
        epochs: complete epochs.
        steps: steps into the next epoch.
        state: what else `save` was given, as JSON has it.
    """

    path: str
    epochs: int
    steps: int
    state: Any


def save(folder, epochs, steps, model, optimizer, metrics, state):
    """Writes a checkpoint and removes those before the last two.

    Args:
        folder: path of the run's `checkpoint/`, made if missing in the run's folder.
        epochs: complete epochs.
        steps: steps into the next epoch.
        model: a Keras model.
        optimizer: the one that trains it, or a part of it, with its variables built.
        metrics: dict of path -> array, the variables of the metrics of the epoch under way.
        state: what else going on needs, as JSON can hold it.

    Returns:
        path of the file.

    Raises:
        DivergedError: a variable is no longer a number; nothing is written.
        OSError: the file cannot be written; those before are untouched.
    """
    arrays = {METRICS + path: value for path, value in metrics.items()}
    for number, variable in enumerate(_variables(model, optimizer)):
        arrays[f"{number:05}"] = array = np.asarray(variable)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DivergedError(
                f"{variable.path} is no longer a number everywhere; a lower --learning_rate "
                "usually helps"
            )
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder)  # not its parents: a run that was removed does not come back
    path = os.path.join(folder, f"{epochs:05}-{steps:07}.npz")
    with replacing(path) as partial:
        with open(partial, "wb") as file:
            np.savez(file, state=np.array(json.dumps(state)), **arrays)
        with open(partial, "r+b") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
            file.write(digest)  # the file's end is where reading has stopped
    for _, old in _files(folder)[:-KEPT]:
        os.unlink(old)
    for name in os.listdir(folder):
        if name.startswith(".partial-"):  # of a process that was killed
            os.unlink(os.path.join(folder, name))
    return path


def newest(folder, report):
    """The newest whole checkpoint of a folder, or None where there is none at all.

    Args:
        folder: path of a run's `checkpoint/`.
        report: called with a line for each one that is damaged.

    Raises:
        InputError: there are some, all damaged.
    """
    damaged = None
    for (epochs, steps), path in reversed(_files(folder)):
        try:
            state = _state(path)
        except InputError as error:
            report(f"note: {error}")
            damaged = damaged or error
            continue
        return Checkpoint(path, epochs, steps, state)
    if damaged:
        raise InputError(f"{damaged}; no other one is left")
    return None


def load(path, model, optimizer):
    """Sets every variable of model and optimizer to those of a checkpoint's file.

    Returns:
        Dict of path -> array, what `save` was given as `metrics`.

    Raises:
        InputError: the file is of another model.
    """
    variables = _variables(model, optimizer)
    with np.load(path, allow_pickle=False) as arrays:  # `newest` has found it whole
        names = [f"{number:05}" for number in range(len(variables))]
        metrics = [name for name in arrays.files if name.startswith(METRICS)]
        fits = {*names, *metrics, "state"} == set(arrays.files) and all(
            arrays[name].shape == tuple(variable.shape) for name, variable in zip(names, variables)
        )
        if not fits:
            raise InputError(f"{path}: belongs to another model")
        for name, variable in zip(names, variables):
            variable.assign(arrays[name])
        return {name.removeprefix(METRICS): arrays[name] for name in metrics}


def _variables(model, optimizer):
    # model.variables, unlike model.weights, has the states of random layers.
    return [*model.variables, *optimizer.variables]


def _files(folder):
    """((epochs, steps), path) of the checkpoints of a folder, the oldest first."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {error.strerror}") from None
    found = [match for match in map(NAME.fullmatch, names) if match]
    return sorted((tuple(map(int, each.groups())), os.path.join(folder, each[0])) for each in found)


def _state(path):
    """The state in a file whose content is what was written.

    Raises:
        InputError: it is not.
    """
    try:
        with open(path, "rb") as file:
            left = max(0, os.fstat(file.fileno()).st_size - HASH_BYTES)
            digest = hashlib.sha256()
            while left and (part := file.read(min(left, 1 << 20))):
                digest.update(part)
                left -= len(part)
            if file.read() != digest.digest():
                raise InputError(f"{path}: is damaged: its checksum does not match its content")
        with np.load(path, allow_pickle=False) as arrays:
            return json.loads(str(arrays["state"]))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, zipfile.BadZipFile) as error:  # whole, but something else
        raise InputError(f"{path}: is damaged: {error}") from None
