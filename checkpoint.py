"""A checkpoint, complete or absent, and going on from it.

One file holds every variable of model and optimizer, the states of random layers
and what the training loop knows, so that no two of them can disagree. It is a
NumPy archive of plain arrays, read without pickle.
"""

import json
import os
import zipfile

import numpy as np

from errors import InputError
from run_folder import replacing

FILE = "last.npz"
# What NumPy and zipfile raise on an archive that is cut or changed, wherever that is
DAMAGE = (zipfile.BadZipFile, KeyError, ValueError, EOFError, OSError, RuntimeError)


def save(folder, model, optimizer, state):
    """Writes the checkpoint of `folder`.

    Args:
        folder: path of the run's `checkpoint/`, made if missing.
        model: a Keras model.
        optimizer: the one that trains it, or a part of it, with its variables built.
        state: what else going on needs, as JSON can hold it.
    """
    os.makedirs(folder, exist_ok=True)
    variables = _variables(model, optimizer)
    arrays = {f"{number:05}": np.asarray(value) for number, value in enumerate(variables)}
    with replacing(os.path.join(folder, FILE)) as partial, open(partial, "wb") as file:
        np.savez(file, state=np.array(json.dumps(state)), **arrays)


def read_state(folder):
    """The state that `save` was given.

    Raises:
        InputError: no checkpoint, or a damaged one.
    """
    with _open(folder) as arrays:
        return json.loads(str(arrays["state"]))


def load(folder, model, optimizer):
    """Sets every variable of model and optimizer to the checkpoint's.

    Raises:
        InputError: it is damaged, or of another model.
    """
    variables = _variables(model, optimizer)
    with _open(folder) as arrays:
        names = [f"{number:05}" for number in range(len(variables))]
        fits = set(arrays.files) == {"state", *names} and all(
            arrays[name].shape == tuple(variable.shape) for name, variable in zip(names, variables)
        )
        if not fits:
            raise InputError(f"{os.path.join(folder, FILE)}: belongs to another model")
        for name, variable in zip(names, variables):
            variable.assign(arrays[name])


def _variables(model, optimizer):
    # model.variables, unlike model.weights, has the states of random layers.
    return [*model.variables, *optimizer.variables]


class _open:
    """The archive as a context; whatever is wrong with it becomes an InputError."""

    def __init__(self, folder):
        self.path = os.path.join(folder, FILE)

    def __enter__(self):
        try:
            self.arrays = np.load(self.path, allow_pickle=False)
        except FileNotFoundError:
            raise InputError(f"{self.path}: is missing: no epoch was completed") from None
        except DAMAGE as error:
            raise InputError(f"{self.path}: is damaged: {error}") from None
        return self.arrays

    def __exit__(self, kind, error, trace):
        self.arrays.close()
        if kind and issubclass(kind, DAMAGE):
            raise InputError(f"{self.path}: is damaged: {error}") from None
