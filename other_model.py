"""Backbones of `keras.applications` and KerasHub, and SEResNet50, up to the last feature map.

`keras.applications` gives the graphs; they are copied into the caller's graph, because
four things must differ:

- Input scaling is a layer with plain numbers for every family. Some of Keras's models hold
  none, others a Normalization layer whose captured constants break the export to ONNX.
- Names. Keras numbers nameless layers through the whole process. Here they are numbered as
  in a process that builds nothing else, so that weights fit by name wherever they were kept.
- BatchNorm momentum is 0.9, not 0.99 or 0.999, which leave the moving statistics behind
  when there are only some hundred steps.
- Stochastic depth is the caller's; Keras fixes it at 0.2 (EfficientNetV2) or 0 (ConvNeXt).
"""

import math
import re

import keras
from keras import layers

from common.errors import InputError, RunError
from modeling import backbones, weight_files
from modeling.imagenet_weights import imagenet_file  # noqa: F401, the interface of a backbone's module

MOMENTUM = 0.9
KERAS_DROP_CONNECT = 0.2  # what EfficientNetV2 has in keras.applications

MEAN = (0.485, 0.456, 0.406)  # of ImageNet, RGB, of pixels in 0-1
STDDEV = (0.229, 0.224, 0.225)
# Scale and offset of pixels in 0-255, RGB, that each family was trained with
MINUS_ONE_TO_ONE = (1 / 127.5, -1.0)
STANDARDISED = (
    [1 / (255 * deviation) for deviation in STDDEV],
    [-mean / deviation for mean, deviation in zip(MEAN, STDDEV)],
)
CENTRED = (1.0, [-123.68, -116.779, -103.939])
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
OWN_SCALING = ("ConvNeXt", "EfficientNetV2B", "EfficientNetV2", "MobileNetV3")
HUB_REQUIREMENTS = "pip install -r requirements/hub.txt"


def other_model(x, name, drop_connect=0.2, scaling=None):
    """Adds a backbone to a graph.

    Args:
        x: Keras tensor (B, S, S, 3), RGB in 0-255, of any dtype; S is at least the
            backbone's `least_size`.
        name: a key of `backbones.TABLE` that is not an EfficientNet B0 to B7.
        drop_connect: stochastic depth of EfficientNetV2 and ConvNeXt: the chance that a
            block is skipped grows from 0 at the first to about this at the last. The
            others have none.
        scaling: (scale, offset) of pixels in 0-255, RGB, each a number or three; None is
            what the backbone was trained with.

    Returns:
        Keras tensor (B, h, w, C), the last feature map, with random weights.
    """
    family = backbones.find(name).family
    size = x.shape[1:]
    scale, offset = scaling or SCALING[family]
    # In float32 under mixed precision too: half precision would round the pixels.
    x = layers.Rescaling(scale, offset, dtype="float32", name="input_scaling")(x)
    if family in BLUE_FIRST:
        x = x[..., ::-1]
    settings = {"include_preprocessing": False} if family in OWN_SCALING else {}
    squeezed = name.startswith("SE")
    build = getattr(keras.applications, name.removeprefix("SE"))
    network = build(include_top=False, weights=None, input_shape=size, **settings)
    x = _copy(x, network, _names(network), drop_connect)
    return _squeeze_and_excite(x) if squeezed else x


def hub_model(x, preset, weights, scaling=None):
    """Adds the backbone of a KerasHub image classifier to a graph.

    Args:
        x: as `other_model` takes it.
        preset: name or path of the preset, as KerasHub takes it, without "hub:".
        weights: bring the preset's weights, else random ones.
        scaling: as `other_model` takes it.

    Returns:
        Keras tensor (B, h, w, C). Of a transformer the patches' tokens, put back into
        their places; the tokens before them (class, distillation) are left out.

    Raises:
        InputError: the preset is no image backbone.
        RunError: KerasHub is not installed, or it cannot bring the preset.
    """
    name = backbones.HUB + preset
    try:
        import keras_hub
    except ImportError as error:
        raise RunError(f"--backbone {name}: needs KerasHub ({error}); {HUB_REQUIREMENTS}") from None
    try:
        network = keras_hub.models.Backbone.from_preset(
            preset, load_weights=weights, image_shape=tuple(x.shape[1:])
        )
        converter = keras_hub.layers.ImageConverter.from_preset(preset)
    except Exception as error:
        raise RunError(
            f"--backbone {name}: KerasHub cannot bring it: {' '.join(str(error).split())[:300]}"
        ) from None
    if isinstance(network.input, (dict, list)) or isinstance(network.output, (dict, list)):
        raise InputError(f"--backbone {name}: is not the backbone of an image classifier")
    scale, offset = scaling or (
        1.0 if converter.scale is None else _plain(converter.scale),
        0.0 if converter.offset is None else _plain(converter.offset),
    )
    # In float32 under mixed precision too: half precision would round the pixels.
    x = layers.Rescaling(scale, offset, dtype="float32", name="input_scaling")(x)
    x = network(x)  # nested: layers of KerasHub need not come back from their settings
    if len(x.shape) == 4:
        return x
    if len(x.shape) != 3 or x.shape[1] is None:
        raise InputError(f"--backbone {name}: gives no feature map but the shape {x.shape}")
    side = math.isqrt(x.shape[1])
    return layers.Reshape((side, side, x.shape[2]), name="token_map")(x[:, -side * side :])


def _plain(numbers):
    return [float(number) for number in numbers] if hasattr(numbers, "__len__") else float(numbers)


def _squeeze_and_excite(x):
    """Hu et al. 2018, "Squeeze-and-Excitation Networks", section 3, with their ratio of 16."""
    channels = x.shape[-1]
    reduce, expand = weight_files.SQUEEZE_LAYERS
    weights = layers.GlobalAveragePooling2D(keepdims=True, name="squeeze_pool")(x)
    weights = layers.Dense(channels // 16, activation="relu", name=reduce)(weights)
    weights = layers.Dense(channels, activation="sigmoid", name=expand)(weights)
    return layers.Multiply(name="squeeze_scale")([x, weights])


def _copy(x, network, names, drop_connect):
    """Puts the network's layers, copied, into the graph of `x`."""
    skips = [each for each in network.operations if each.name.endswith("_identity")]
    results = []

    def copy(operation):
        if isinstance(operation, keras.Sequential):
            return [copy(layer) for layer in operation.layers]  # ConvNeXt's stem: kept flat
        config = {**operation.get_config(), "name": names[operation.name]}
        if operation in skips:
            chance = drop_connect * skips.index(operation) / (len(skips) - 1)
            # an image at a time, Huang et al. 2016, "Deep Networks with Stochastic Depth"
            return layers.Dropout(chance, noise_shape=(None, 1, 1, 1), name=config["name"])
        if isinstance(operation, layers.BatchNormalization):
            config["momentum"] = MOMENTUM
        if isinstance(operation, layers.Dropout):
            config["rate"] *= drop_connect / KERAS_DROP_CONNECT
        return type(operation).from_config(config)

    def call(made, *words, **settings):
        if isinstance(made, list):
            result = words[0]
            for layer in made:
                result = layer(result)
        else:
            result = made(*words, **settings)
        results.append(result)
        return result

    keras.models.clone_model(network, x, copy, call)
    return results[-1]


def _names(network):
    """Name of each operation -> its name in a process that builds nothing else.

    A nameless layer is called after its class and its number among all of the class so
    far; taking away the network's lowest number leaves its number in the network.
    """
    numbered, names = {}, {}
    operations = list(network.operations)
    for each in operations:
        if isinstance(each, keras.Sequential):
            operations.extend(each.layers)
    for each in operations:
        kind, number = re.fullmatch(r"(.+?)(?:_(\d+))?", each.name).groups()
        names[each.name] = each.name
        if kind.replace("_", "") == type(each).__name__.lower():
            numbered.setdefault(kind, []).append((int(number or 0), each.name))
    for kind, found in numbered.items():
        first = min(found)[0]
        for number, name in found:
            names[name] = f"{kind}_{number - first}" if number > first else kind
    return names
