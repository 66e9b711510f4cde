"""Backbones of `keras.applications` and KerasHub, and SEResNet50, up to the last feature map.

`keras.applications` gives the graphs; they are copied into the caller's graph, because
four things must differ:

- Input scaling is a layer with plain numbers for every family. Some of Keras's models have
  none, others a Normalization layer whose captured constants break the export to ONNX.
- Names. Keras numbers layers without a name through the whole process. Here they are numbered
  as in a process that builds nothing else, so that weights are matched by name wherever they
  were saved.
- BatchNorm momentum is 0.9, not 0.99 or 0.999, with which the moving statistics lag behind
  in a training of only some hundred steps.
- Stochastic depth is an argument; Keras fixes it at 0.2 (EfficientNetV2) or 0 (ConvNeXt).
"""

import functools
import math
import re
import warnings

import keras
from keras import layers

from common.errors import InputError, RunError

MOMENTUM = 0.9
KERAS_DROP_CONNECT = 0.2  # what EfficientNetV2 has in keras.applications

MEAN = (0.485, 0.456, 0.406)  # of ImageNet, RGB, pixels in 0-1
STDDEV = (0.229, 0.224, 0.225)
MINUS_ONE_TO_ONE = (1 / 127.5, -1.0)
STANDARDISED = (
    [1 / (255 * deviation) for deviation in STDDEV],
    [-mean / deviation for mean, deviation in zip(MEAN, STDDEV)],
)
CENTRED = (1.0, [-123.68, -116.779, -103.939])
# Family -> (scale, offset) of pixels in 0-255, RGB, that its weights were trained with
SCALING = {
    "ConvNeXt": STANDARDISED,
    "DenseNet": STANDARDISED,
    "EfficientNetV2B": STANDARDISED,
    "EfficientNetV2": (1 / 128, -1.0),
    "Inception": MINUS_ONE_TO_ONE,
    "MobileNet": MINUS_ONE_TO_ONE,
    "MobileNetV2": MINUS_ONE_TO_ONE,
    "MobileNetV3": MINUS_ONE_TO_ONE,
    "NASNet": MINUS_ONE_TO_ONE,
    "ResNet": CENTRED,
    "ResNetV2": MINUS_ONE_TO_ONE,
    "VGG": CENTRED,
    "Xception": MINUS_ONE_TO_ONE,
}
BLUE_FIRST = ("ResNet", "VGG")  # their published weights are for BGR
# Keras's models of these scale their input themselves, unless told not to
OWN_SCALING = ("ConvNeXt", "EfficientNetV2B", "EfficientNetV2", "MobileNetV3")
HUB_REQUIREMENTS = "pip install -r requirements/hub.txt"
HARMLESS = (  # warnings of Keras
    r"Gradients do not exist for variables \['[^']*mask_token'\]",  # DINO's, for hidden patches
    "Skipping nested container",  # looks for the layers of a file a second way, in vain
)
TOKENS_OF_SEVERAL = "sequence_output"  # KerasHub's key where an encoder has several outputs


def other_model(x, name, family, squeeze_layers, drop_connect=0.2, scaling=None):
    """Adds a backbone of `keras.applications`, or SEResNet50, to a graph.

    Args:
        x: Keras tensor (B, S, S, 3), RGB in 0-255, of any dtype; S is at least the
            backbone's `min_size` in `backbones.TABLE`.
        name: str, a function of `keras.applications`, or "SEResNet50".
        family: str, a key of `SCALING`, whose scaling the backbone was trained with.
        squeeze_layers: four str, names of the layers that SEResNet50 has beyond ResNet50:
            pooling, two dense layers, multiplication. The others do not use them.
        drop_connect: float, stochastic depth of EfficientNetV2 and ConvNeXt: the
            probability that a block is skipped grows from 0 at the first block to about this
            at the last. The others have none.
        scaling: (scale, offset) for pixels in 0-255, RGB, each a float or three; None is
            what the backbone's published weights were trained with.

    Returns:
        Keras tensor (B, h, w, channels), the last feature map, with random weights.

    Example:
        >>> inputs = keras.Input((224, 224, 3), dtype="uint8")
        >>> other_model(inputs, "ResNet50", "ResNet", SQUEEZE_LAYERS).shape
        (None, 7, 7, 2048)
    """
    input_shape = x.shape[1:]
    x = _scale_pixels(x, scaling or SCALING[family])
    if family in BLUE_FIRST:
        x = x[..., ::-1]
    settings = {"include_preprocessing": False} if family in OWN_SCALING else {}
    has_squeeze = name.startswith("SE")
    build_network = getattr(keras.applications, name.removeprefix("SE"))
    network = build_network(include_top=False, weights=None, input_shape=input_shape, **settings)
    x = _copy_layers(x, network, _layer_names(network), drop_connect)
    return _squeeze_and_excite(x, squeeze_layers) if has_squeeze else x


def hub_model(x, name, prefix, load_weights, scaling=None):
    """Adds an image encoder of KerasHub to a graph.

    Args:
        x: Keras tensor (B, S, S, 3), RGB in 0-255, of any dtype.
        name: str, `prefix` and the name, address or folder of the preset.
        prefix: str, what `name` has before the preset, "hub:" in `--backbone`.
        load_weights: bool, whether to load the preset's weights instead of random ones.
        scaling: (scale, offset) for pixels in 0-255, RGB, each a float or three; None is
            the preset's own.

    Returns:
        Keras tensor (B, h, w, channels). For a transformer these are the tokens of the
        patches at their places in the image; the tokens before them (class, registers,
        distillation) are left out. An encoder that ends with a pooling of its own, as SigLIP's
        does, gives h = w = 1.

    Raises:
        InputError: the preset is not an image encoder, or its weights are for another S.
        RunError: KerasHub is not installed, or it cannot load the preset.

    Example:
        >>> inputs = keras.Input((224, 224, 3), dtype="uint8")
        >>> hub_model(inputs, "hub:resnet_18_imagenet", "hub:", load_weights=True).shape
        (None, 7, 7, 512)
    """
    preset = name.removeprefix(prefix)
    try:
        import keras_hub
    except ImportError as error:
        raise RunError(f"--backbone {name}: needs KerasHub ({error}); {HUB_REQUIREMENTS}") from None
    for message in HARMLESS:
        warnings.filterwarnings("ignore", message)
    backbone_class, input_size = keras_hub.models.Backbone, x.shape[1]
    try:
        network = backbone_class.from_preset(
            preset, load_weights=load_weights, image_shape=tuple(x.shape[1:])
        )
    except Exception as error:
        own_size = _own_input_size(backbone_class, preset, error)
        if own_size not in (None, input_size):
            raise InputError(
                f"--backbone {name}: cannot have --input_size {input_size}; allowed: --input_size "
                f"{own_size}, the preset's own (KerasHub: {_in_line(error)})"
            ) from None
        raise RunError(f"--backbone {name}: KerasHub cannot load it: {_in_line(error)}") from None
    _check_image_encoder(network, name)
    _mend_positions(network)
    x = _scale_pixels(x, scaling or _hub_scaling(keras_hub, network, preset, name))
    if isinstance(network.input, dict):
        x = dict.fromkeys(network.input, x)
    x = network(x)  # nested: layers of KerasHub need not be restorable from their settings
    x = x[TOKENS_OF_SEVERAL] if isinstance(x, dict) else x
    return x if len(x.shape) == 4 else _token_map(x, network, input_size)


def _in_line(error):
    return " ".join(str(error).split())[:300]


def _own_input_size(backbone_class, preset, error):
    """The side in pixels that a preset is made for, or None where that cannot be the trouble."""
    if not re.search("shape|divisible", str(error)):  # do not ask a hub again that is away
        return None
    try:
        return backbone_class.from_preset(preset, load_weights=False).image_shape[0]
    except Exception:
        return None


def _check_image_encoder(network, name):
    """Raises InputError unless a network takes images alone and gives a map, tokens or a row."""
    inputs, output = network.input, network.output
    inputs = list(inputs.values()) if isinstance(inputs, dict) else inputs
    inputs = inputs if isinstance(inputs, list) else [inputs]
    if isinstance(output, dict):
        output = output.get(TOKENS_OF_SEVERAL)
    shape = getattr(output, "shape", ())  # a list of outputs has none
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or len(shape) < 2 or None in shape[1:]:
        input_names = ", ".join(tensor.name for tensor in inputs)
        raise InputError(
            f"--backbone {name}: is a {type(network).__name__} with the input {input_names}; "
            "allowed: the backbone of an image classifier, or an encoder whose one input is an "
            "image, such as DINOv2, DINOv3 or the vision encoder of SigLIP or CLIP by itself"
        )


def _mend_positions(network):
    """Lets weight files and ONNX keep what DINOv2 and DINOv3 know of their patches' positions.

    KerasHub saves DINOv2's embeddings interpolated back to the size of the preset, and not at
    all where their changes add up to more than 0, so that a trained network would not come back
    from its file. DINOv3 captures a tensor, which becomes an input that no ONNX file gets.
    """
    for layer in network.layers:
        if hasattr(layer, "interpolated_position_embeddings"):
            for method in ("save_own_variables", "load_own_variables"):
                plain_method = getattr(layers.Layer, method)
                setattr(layer, method, functools.partial(plain_method, layer))
        if hasattr(layer, "inv_freq"):
            layer.inv_freq = keras.ops.convert_to_numpy(layer.inv_freq)


def _token_map(x, network, input_size):
    """Tokens (B, tokens, channels), or one row (B, channels), as a map (B, h, w, channels)."""
    if len(x.shape) == 2:
        return layers.Reshape((1, 1, x.shape[1]), name="token_map")(x)
    patch_size = getattr(network, "patch_size", 1)
    patch_size = patch_size if isinstance(patch_size, int) else patch_size[0]
    # Swin merges patches and has fewer; registers may be more than a row of patches.
    side = min(input_size // patch_size, math.isqrt(x.shape[1]))
    return layers.Reshape((side, side, x.shape[2]), name="token_map")(x[:, -side * side :])


def _scale_pixels(x, scaling):
    scale, offset = scaling
    # In float32 under mixed precision too: half precision would round the pixels.
    return layers.Rescaling(scale, offset, dtype="float32", name="input_scaling")(x)


def _hub_scaling(keras_hub, network, preset, name):
    """(scale, offset) of pixels in 0-255 that a preset is made for, as plain numbers."""

    class Converter(keras_hub.layers.ImageConverter):
        backbone_cls = type(network)  # SigLIP's and CLIP's know only their whole models

    try:
        converter = Converter.from_preset(preset)
    except Exception as error:
        raise RunError(f"--backbone {name}: KerasHub cannot load it: {_in_line(error)}") from None
    if converter is None:
        raise InputError(
            f"--backbone {name}: does not say how its pixels are scaled; give --normalize"
        )
    return (
        1.0 if converter.scale is None else _plain_floats(converter.scale),
        0.0 if converter.offset is None else _plain_floats(converter.offset),
    )


def _plain_floats(numbers):
    return [float(number) for number in numbers] if hasattr(numbers, "__len__") else float(numbers)


def _squeeze_and_excite(x, layer_names):
    """Hu et al. 2018, "Squeeze-and-Excitation Networks", section 3, with their ratio of 16."""
    channels = x.shape[-1]
    pool, reduce, expand, multiply = layer_names
    channel_weights = layers.GlobalAveragePooling2D(keepdims=True, name=pool)(x)
    channel_weights = layers.Dense(channels // 16, activation="relu", name=reduce)(channel_weights)
    channel_weights = layers.Dense(channels, activation="sigmoid", name=expand)(channel_weights)
    return layers.Multiply(name=multiply)([x, channel_weights])


def _copy_layers(x, network, layer_names, drop_connect):
    """Puts copies of a network's layers into the graph of `x`, under other names."""
    skips = [layer for layer in network.operations if layer.name.endswith("_identity")]
    outputs = []

    def copy_layer(layer):
        if isinstance(layer, keras.Sequential):  # ConvNeXt's stem: kept flat
            return [copy_layer(inner_layer) for inner_layer in layer.layers]
        config = {**layer.get_config(), "name": layer_names[layer.name]}
        if layer in skips:
            skip_rate = drop_connect * skips.index(layer) / (len(skips) - 1)
            # per image, Huang et al. 2016, "Deep Networks with Stochastic Depth", section 3
            return layers.Dropout(skip_rate, noise_shape=(None, 1, 1, 1), name=config["name"])
        if isinstance(layer, layers.BatchNormalization):
            config["momentum"] = MOMENTUM
        if isinstance(layer, layers.Dropout):
            config["rate"] *= drop_connect / KERAS_DROP_CONNECT
        return type(layer).from_config(config)

    def call_layer(copied, *args, **kwargs):
        if isinstance(copied, list):
            output = args[0]
            for inner_layer in copied:
                output = inner_layer(output)
        else:
            output = copied(*args, **kwargs)
        outputs.append(output)
        return output

    keras.models.clone_model(network, x, copy_layer, call_layer)
    return outputs[-1]


def _layer_names(network):
    """Name of each layer -> its name in a process that builds nothing else.

    Keras names a layer without a name of its own after its class and its index among all
    layers of the class so far; subtracting the network's smallest index leaves the index
    within the network.
    """
    indexed_names, layer_names = {}, {}
    network_layers = list(network.operations)
    for layer in network_layers:
        if isinstance(layer, keras.Sequential):
            network_layers.extend(layer.layers)
    for layer in network_layers:
        class_name, index = re.fullmatch(r"(.+?)(?:_(\d+))?", layer.name).groups()
        layer_names[layer.name] = layer.name
        if class_name.replace("_", "") == type(layer).__name__.lower():
            indexed_names.setdefault(class_name, []).append((int(index or 0), layer.name))
    for class_name, pairs in indexed_names.items():
        first_index = min(pairs)[0]
        for index, name in pairs:
            layer_names[name] = (
                f"{class_name}_{index - first_index}" if index > first_index else class_name
            )
    return layer_names
