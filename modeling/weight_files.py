"""Weight files, and loading them into a backbone by layer name.

Two kinds of file are read: Keras's published `.h5` files (one group per layer) and
the `.weights.h5` files of this project's runs. Both contain plain arrays; no code in
them is run.
"""

import warnings

import h5py
import numpy as np

from common.errors import InputError
from modeling.layer_names import BLOCK_ATTENTION_SUFFIX, HEAD_LAYERS


def read(path):
    """Reads a weight file.

    Args:
        path: str, a Keras `.h5` file of weights or a `.weights.h5` file.

    Returns:
        dict of layer name -> list of arrays, in the layer's own order.

    Raises:
        InputError: there is no such file, or it is not a weight file.
    """
    return _read(path)[0]


def _read(path):
    """(the dict of `read`, whether it is a published file, which is in the graph's order)."""
    try:
        with h5py.File(path, "r") as h5_file:
            group = h5_file["model_weights"] if "model_weights" in h5_file else h5_file
            published = "layer_names" in group.attrs
            layer_arrays = _read_published(group) if published else _read_run(group)
    except FileNotFoundError:
        raise InputError(f"{path}: no such weights file") from None
    except (OSError, KeyError, ValueError, RuntimeError, AttributeError, TypeError) as error:
        raise InputError(f"{path}: is not a weights file: {error}") from None
    if not layer_arrays:
        raise InputError(f"{path}: contains no weights of any layer")
    return layer_arrays, published


def _read_published(group):
    layer_arrays = {}
    for name in group.attrs["layer_names"]:
        layer_name = name.decode() if isinstance(name, bytes) else str(name)
        layer_group = group[layer_name]
        arrays = [np.asarray(layer_group[key]) for key in layer_group.attrs["weight_names"]]
        if arrays:
            layer_arrays[layer_name] = arrays
    return layer_arrays


def _read_run(group):
    layer_arrays = {}
    for layer_group in group.get("layers", {}).values():
        variables = layer_group.get("vars", {})
        if len(variables):
            layer_name = str(variables.attrs["name"])
            keys = sorted(variables, key=int)
            layer_arrays[layer_name] = [np.asarray(variables[key]) for key in keys]
    return layer_arrays


def load(model, path, head=True):
    """Loads a weight file into a model, layer by layer, or nothing of it.

    Layers are matched by name. Where the names in a published file differ, as the numbers of
    layers without a name of their own do, they are matched in the graph's order. Layers of
    the file that the model does not have (Keras's own input normalization, a head) are
    ignored; a layer of the model that the file does not have is an error. A
    GroupNormalization takes gamma and beta of the file's BatchNormalization.

    Args:
        model: `keras.Model`; its classification layer is named "predictions".
        path: str, a weight file that `read` can read.
        head: bool, True if every layer has to match, as in a run's own file; False if the
            layers after the backbone (`layer_names.HEAD_LAYERS`) and the CBAM layers inside
            its blocks keep the weights they have where the file's do not match.

    Raises:
        InputError: names the first layer that does not match, and both shapes.

    Example:
        >>> load(model, "log_file/my_run/best.weights.h5")
    """
    if any(hasattr(layer, "layers") for layer in model.layers):
        return _load_nested(model, path, head)
    layer_arrays, published = _read(path)
    load_arrays(model, layer_arrays, path, head, in_graph_order=published)


def load_arrays(model, layer_arrays, path, head=True, in_graph_order=False):
    """Loads arrays into a model as `load` does a file's.

    Args:
        model: `keras.Model`; its classification layer is named "predictions".
        layer_arrays: dict of layer name -> list of arrays, as `read` returns it.
        path: str, where the arrays come from, for the error message.
        head: bool, as in `load`.
        in_graph_order: bool, whether layers whose names differ are matched by their order.

    Raises:
        InputError: names the first layer that does not match, and both shapes.
    """
    matched, mismatched = [], []
    for layer in model.layers:
        if not layer.weights:
            continue
        arrays = match_weights(layer, layer_arrays.get(layer.name))
        if arrays:
            matched.append((layer, arrays))
        elif head or not _is_optional(layer.name):
            mismatched.append(layer)
    if mismatched and in_graph_order and not head:
        matched = _match_in_order(model, layer_arrays, path, mismatched[0])
    elif mismatched:
        raise _mismatch_error(path, mismatched[0], layer_arrays.get(mismatched[0].name))
    for layer, arrays in matched:
        layer.set_weights(arrays)


def _is_optional(layer_name):
    return layer_name in HEAD_LAYERS or layer_name.endswith(BLOCK_ATTENTION_SUFFIX)


def _shapes(weights):
    return [tuple(weight.shape) for weight in weights]


def match_weights(layer, arrays):
    """The arrays of a file in the form that a layer's `set_weights` takes.

    Args:
        layer: Keras layer, built, with weights.
        arrays: list of arrays, or None.

    Returns:
        List of arrays with the shapes of the layer's weights, or None if they do not match.
    """
    needed_shapes = _shapes(layer.weights)
    if not arrays or _shapes(arrays) == needed_shapes:
        return arrays
    if type(layer).__name__ == "GroupNormalization" and len(arrays) in (3, 4):
        # gamma (if there is one), beta, mean and variance of a BatchNormalization
        values = {
            "gamma": arrays[0] if len(arrays) == 4 else np.ones_like(arrays[0]),
            "beta": arrays[-3],
        }
        arrays = [values[weight.name] for weight in layer.weights]
        return arrays if _shapes(arrays) == needed_shapes else None
    return None


def _match_in_order(model, layer_arrays, path, first_mismatch):
    """[(layer, arrays)] with the file's layers taken one after the other, as Keras does.

    A layer of the file may hold several of the model: ConvNeXt's stem is one there.
    """
    queue = list(layer_arrays.items())
    matched = []
    for layer in model.layers:
        if not layer.weights:
            continue
        if _is_optional(layer.name):
            arrays = match_weights(layer, layer_arrays.get(layer.name))
            if arrays:
                matched.append((layer, arrays))
            continue
        file_layer, arrays = queue.pop(0) if queue else (None, None)
        layer_weights = match_weights(layer, arrays)
        count = len(layer.weights)
        if layer_weights is None and arrays and _shapes(arrays[:count]) == _shapes(layer.weights):
            queue.insert(0, (file_layer, arrays[count:]))
            layer_weights = arrays[:count]
        if layer_weights is None:
            if first_mismatch.name in layer_arrays:
                raise _mismatch_error(path, first_mismatch, layer_arrays[first_mismatch.name])
            raise _mismatch_error(path, layer, arrays, f"in its place {file_layer!r} with ")
        matched.append((layer, layer_weights))
    return matched


def _mismatch_error(path, layer, arrays, place=""):
    has = f"has {place}{_shapes(arrays)}" if arrays else "has no such layer"
    return InputError(
        f"{path}: does not fit: layer {layer.name!r} needs weights of shape "
        f"{_shapes(layer.weights)}, the file {has}"
    )


def _load_nested(model, path, head):
    """Loads a run's file by structure, not by name: the model contains a KerasHub backbone."""
    import keras

    read(path)  # its errors are better
    target = model
    if not head:
        index = next(i for i, layer in enumerate(model.layers) if hasattr(layer, "layers"))
        target = keras.Model(model.inputs, model.layers[index + 1].input)
    try:
        with warnings.catch_warnings():  # it looks for the same layers a second way, in vain
            warnings.filterwarnings("ignore", "Skipping (nested container|variable loading)")
            target.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{path}: does not fit: {reason}") from None
