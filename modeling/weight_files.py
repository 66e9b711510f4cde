"""Weight files, and loading them into a backbone by layer name.

Two kinds of file are read: Keras's published `.h5` files (one group a layer) and
the `.weights.h5` files of this project's runs. Both hold plain arrays; nothing in
them is run.
"""

import contextlib
import sys
import warnings

import h5py
import numpy as np

from common.errors import InputError, RunError
from modeling.imagenet_weights import cache_folder

HEAD = "predictions"  # name of the classification head in a run's model and in Keras's files
# What a classifier has beyond a published backbone: its weights may be missing in the file.
HEAD_LAYERS = ("attention", "bilinear_conv", "pool", HEAD)
SQUEEZE_LAYERS = ("squeeze_reduce", "squeeze_expand")  # of SEResNet50
BLOCK_ATTENTION = "_cbam"  # how such layers inside an EfficientNet's blocks end


def fetch(backbone, file, address, md5):
    """Path of a backbone's ImageNet weights, downloaded unless Keras's cache has them.

    Args:
        backbone: name for messages.
        file, address, md5: as `imagenet_file` gives them; md5 may be None or a SHA-256.

    Raises:
        RunError: it cannot be downloaded; says what to do instead.
    """
    import keras

    try:
        with contextlib.redirect_stdout(sys.stderr):  # standard output is for results
            return keras.utils.get_file(file, address, cache_subdir="models", file_hash=md5)
    except Exception as error:
        raise RunError(
            f"--weights imagenet: the weights of {backbone} cannot be downloaded "
            f"({' '.join(str(error).split())[:200]}). Without a network: train from scratch with "
            f"--weights none, or bring {address} from elsewhere and put it into {cache_folder()} "
            f"as {file}, or name it with --weights PATH"
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
    return _read(path)[0]


def _read(path):
    """The dict of `read`, and whether it is in the order of the layers (a published file)."""
    try:
        with h5py.File(path, "r") as file:
            group = file["model_weights"] if "model_weights" in file else file
            published = "layer_names" in group.attrs
            found = _read_published(group) if published else _read_run(group)
    except FileNotFoundError:
        raise InputError(f"{path}: no such weights file") from None
    except (OSError, KeyError, ValueError, RuntimeError, AttributeError, TypeError) as error:
        raise InputError(f"{path}: is not a weights file: {error}") from None
    if not found:
        raise InputError(f"{path}: holds no layer's weights")
    return found, published


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
    """Loads a weight file into a model, layer by layer, or nothing of it.

    Layers are found by name. Where names differ in a published file, as the numbers of
    nameless layers do, they are taken in the graph's order. Layers of the file that the
    model lacks (Keras's own input normalisation, a head) are passed over; a layer of the
    model that the file lacks is an error. A GroupNormalization takes scale and shift of
    the BatchNormalization in the file.

    Args:
        model: a Keras model; its head is the layer named `predictions`.
        path: as `read` takes it.
        head: every layer has to fit, as in a run's own file; else `HEAD_LAYERS`,
            `SQUEEZE_LAYERS` and block attention that do not fit keep what they have.

    Raises:
        InputError: names the first layer that does not fit, and both shapes.
    """
    if any(hasattr(layer, "layers") for layer in model.layers):
        return _load_nested(model, path, head)
    found, published = _read(path)
    plan, misfits = [], []
    for layer in model.layers:
        if not layer.weights:
            continue
        arrays = _fit(layer, found.get(layer.name))
        if arrays:
            plan.append((layer, arrays))
        elif head or not _may_lack(layer.name):
            misfits.append(layer)
    if misfits and published and not head:
        plan = _in_order(model, found, path, misfits[0])
    elif misfits:
        raise _misfit(path, misfits[0], found)
    for layer, arrays in plan:
        layer.set_weights(arrays)


def _may_lack(name):
    return name in HEAD_LAYERS + SQUEEZE_LAYERS or name.endswith(BLOCK_ATTENTION)


def _shapes(weights):
    return [tuple(weight.shape) for weight in weights]


def _fit(layer, arrays):
    """The arrays as the layer takes them, or None."""
    wanted = _shapes(layer.weights)
    if not arrays or _shapes(arrays) == wanted:
        return arrays
    if type(layer).__name__ == "GroupNormalization" and len(arrays) in (3, 4):
        # gamma (where there is one), beta, mean and variance of a BatchNormalization
        values = {
            "gamma": arrays[0] if len(arrays) == 4 else np.ones_like(arrays[0]),
            "beta": arrays[-3],
        }
        arrays = [values[weight.name] for weight in layer.weights]
        return arrays if _shapes(arrays) == wanted else None
    return None


def _in_order(model, found, path, first):
    """[(layer, arrays)] with the file's layers taken one after the other, as Keras does.

    A layer of the file may hold several of the model: ConvNeXt's stem is one there.
    """
    queue = list(found.items())
    plan = []
    for layer in model.layers:
        if not layer.weights:
            continue
        if _may_lack(layer.name):
            arrays = _fit(layer, found.get(layer.name))
            if arrays:
                plan.append((layer, arrays))
            continue
        name, arrays = queue.pop(0) if queue else (None, None)
        fitted = _fit(layer, arrays)
        count = len(layer.weights)
        if fitted is None and arrays and _shapes(arrays[:count]) == _shapes(layer.weights):
            queue.insert(0, (name, arrays[count:]))
            fitted = arrays[:count]
        if fitted is None:
            raise (
                _misfit(path, first, found)
                if first.name in found
                else _misfit(path, layer, {layer.name: arrays}, f"in its place {name!r} with ")
            )
        plan.append((layer, fitted))
    return plan


def _misfit(path, layer, found, where=""):
    arrays = found.get(layer.name)
    return InputError(
        f"{path}: does not fit: layer {layer.name!r} needs weights of shape "
        f"{_shapes(layer.weights)}, "
        + (f"the file has {where}{_shapes(arrays)}" if arrays else "the file has no such layer")
    )


def _load_nested(model, path, head):
    """Loads a run's file into a model with a model in it, a KerasHub backbone, by structure."""
    import keras

    read(path)  # its errors are better
    target = model
    if not head:
        place = next(n for n, layer in enumerate(model.layers) if hasattr(layer, "layers"))
        target = keras.Model(model.inputs, model.layers[place + 1].input)
    try:
        with warnings.catch_warnings():  # it asks for the same layers in a second way, in vain
            warnings.filterwarnings("ignore", "Skipping nested container")
            target.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{path}: does not fit: {reason}") from None
