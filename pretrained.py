"""Weight files, and loading them into a backbone by layer name.

Two kinds of file are read: Keras's published `.h5` files (one group a layer) and
the `.weights.h5` files of this project's runs. Both hold plain arrays; nothing in
them is run.
"""

import contextlib
import os
import sys

import h5py
import numpy as np

from errors import InputError, RunError

HEAD = "predictions"  # name of the classification head in a run's model and in Keras's files


def fetch(backbone, file, address, md5):
    """Path of a backbone's ImageNet weights, downloaded unless Keras's cache has them.

    Args:
        backbone: name for messages.
        file, address, md5: as a backbone's `imagenet_file` gives them.

    Raises:
        RunError: it cannot be downloaded; says what to do instead.
    """
    import keras

    try:
        with contextlib.redirect_stdout(sys.stderr):  # standard output is for results
            return keras.utils.get_file(file, address, cache_subdir="models", file_hash=md5)
    except Exception as error:
        home = os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")
        cache = os.path.join(home, "models")
        raise RunError(
            f"--weights imagenet: the weights of {backbone} cannot be downloaded "
            f"({' '.join(str(error).split())[:200]}). Without a network: train from scratch with "
            f"--weights none, or bring {address} from elsewhere and put it into {cache}, or name "
            "it with --weights PATH"
        ) from None


def read(path):
    """Reads a weight file.

    Args:
        path: a Keras `.h5` file of weights or a `.weights.h5` file.

    Returns:
        Dict of layer name -> list of arrays, in the layer's own order.

    Raises:
        InputError: no such file, or not a weight file.
    """
    try:
        with h5py.File(path, "r") as file:
            group = file["model_weights"] if "model_weights" in file else file
            found = _read_published(group) if "layer_names" in group.attrs else _read_run(group)
    except FileNotFoundError:
        raise InputError(f"{path}: no such weights file") from None
    except (OSError, KeyError, ValueError, RuntimeError, AttributeError, TypeError) as error:
        raise InputError(f"{path}: is not a weights file: {error}") from None
    if not found:
        raise InputError(f"{path}: holds no layer's weights")
    return found


def _read_published(group):
    found = {}
    for name in group.attrs["layer_names"]:
        name = name.decode() if isinstance(name, bytes) else str(name)
        arrays = [np.asarray(group[name][key]) for key in group[name].attrs["weight_names"]]
        if arrays:
            found[name] = arrays
    return found


def _read_run(group):
    found = {}
    for layer in group.get("layers", {}).values():
        variables = layer.get("vars", {})
        if len(variables):
            numbers = sorted(variables, key=int)
            found[str(variables.attrs["name"])] = [np.asarray(variables[key]) for key in numbers]
    return found


def load(model, path, head=True):
    """Loads a weight file into a model, layer by layer.

    Layers of the file that the model lacks (Keras's own input normalisation) are
    passed over; a layer of the model that the file lacks is an error.

    Args:
        model: a Keras model; its head is the layer named `predictions`.
        path: as `read` takes it.
        head: the head has to fit; else one that does not keeps what it has.

    Raises:
        InputError: names the first layer that does not fit, and both shapes.
    """
    arrays = read(path)
    for layer in model.layers:
        if not layer.weights:
            continue
        wanted = [tuple(weight.shape) for weight in layer.weights]
        found = arrays.get(layer.name)
        shapes = [array.shape for array in found] if found else None
        if shapes == wanted:
            layer.set_weights(found)
        elif head or layer.name != HEAD:
            raise InputError(
                f"{path}: does not fit: layer {layer.name!r} needs weights of shape {wanted}, "
                + (f"the file has {shapes}" if found else "the file has no such layer")
            )
