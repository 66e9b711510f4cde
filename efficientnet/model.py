"""The EfficientNet graph, up to its last feature map.

Layer order, layer names and weight shapes are those of the published models in
`keras.applications`, so its weight files can be loaded; the Lite variants, which Keras does not
publish, have the same names. Differences, and why:

- Input scaling is one layer with fixed numbers, the same with and without pretrained weights.
  `keras.applications` has a Normalization layer (7 more values) and, with ImageNet weights
  only, another one after it; together they compute what this one layer does.
- BatchNorm momentum is 0.9, not 0.99: in a training of some hundred steps, 0.99 leaves the
  moving statistics so far behind that validation accuracy stays that of guessing.
"""

import math
from typing import NamedTuple

from keras import layers

from CBAM import CBAM
from efficientnet import VARIANTS

MEAN = (0.485, 0.456, 0.406)  # of ImageNet, RGB, pixels in 0-1
STDDEV = (0.229, 0.224, 0.225)
LITE_SCALING = ([1 / 128] * 3, [-127 / 128] * 3)  # (pixel - 127) / 128


class Stage(NamedTuple):
    """A row of the paper's table 1: blocks that share kernel size and width.

    Attributes:
        kernel: int, side of the depthwise convolution.
        repeats: int, number of blocks, before scaling by the variant's depth.
        filters: int, output channels, before scaling by the variant's width.
        expansion: int, factor on the input channels inside a block.
        stride: int, 1 or 2, of the first block; the others have 1.
    """

    kernel: int
    repeats: int
    filters: int
    expansion: int
    stride: int


STAGES = (
    Stage(3, 1, 16, 1, 1),
    Stage(3, 2, 24, 6, 2),
    Stage(5, 2, 40, 6, 2),
    Stage(3, 3, 80, 6, 2),
    Stage(5, 3, 112, 6, 1),
    Stage(5, 4, 192, 6, 2),
    Stage(3, 1, 320, 6, 1),
)
SQUEEZE_RATIO = 0.25  # fraction of the block's input channels, inside squeeze-and-excitation

# He et al. 2015, over fan-out, as the reference code initializes its convolutions
KERNEL_INITIALIZER = {
    "class_name": "VarianceScaling",
    "config": {"scale": 2.0, "mode": "fan_out", "distribution": "truncated_normal"},
}


def efficientnet(x, name, drop_connect=0.2, attention="se", momentum=0.9, scaling=None):
    """Adds an EfficientNet to a graph.

    Args:
        x: Keras tensor (B, S, S, 3), RGB in 0-255, of any dtype.
        name: str, a key of `VARIANTS`.
        drop_connect: float, stochastic depth (Huang et al. 2016, "Deep Networks with
            Stochastic Depth", section 3): the probability that a block is skipped grows from 0
            at the first block to nearly this at the last.
        attention: str, inside each block: "se" (squeeze-and-excitation, as published),
            "cbam" or "none"; the Lite variants are published without and have none.
        momentum: float, of the moving statistics of every BatchNormalization.
        scaling: (scale, offset) for pixels in 0-255, RGB, each three floats; None is what the
            published weights were trained with: ImageNet's mean and deviation, of the Lite
            variants 127 and 128.

    Returns:
        Keras tensor (B, S/32, S/32, channels), sides rounded up; B0 and the Lite variants have
        1280 channels, wider variants more.

    Example:
        >>> inputs = keras.Input((224, 224, 3), dtype="uint8")
        >>> efficientnet(inputs, "EfficientNetB0").shape
        (None, 7, 7, 1280)
    """
    variant = VARIANTS[name]
    activation, outer_width = ("relu6", 1.0) if variant.lite else ("silu", variant.width)

    def normalize(x, layer_name):
        return layers.BatchNormalization(momentum=momentum, name=layer_name)(x)

    scale, offset = scaling or _published_scaling(variant)
    # In float32 under mixed precision too: half precision would round the pixels.
    x = layers.Rescaling(scale, offset, dtype="float32", name="input_scaling")(x)
    x = layers.ZeroPadding2D(same_padding(x.shape, 3), name="stem_conv_pad")(x)
    x = _conv(round_filters(32, outer_width), 3, "stem_conv", strides=2, padding="valid")(x)
    x = normalize(x, "stem_bn")
    x = layers.Activation(activation, name="stem_activation")(x)

    block_counts = _block_counts(variant)
    block_index = 0
    for stage_number, (stage, block_count) in enumerate(zip(STAGES, block_counts), 1):
        filters = round_filters(stage.filters, variant.width)
        for repeat in range(block_count):
            x = _block(
                x,
                f"block{stage_number}{chr(ord('a') + repeat)}_",
                stage._replace(filters=filters, stride=1 if repeat else stage.stride),
                drop_connect * block_index / sum(block_counts),
                "none" if variant.lite else attention,
                activation,
                normalize,
            )
            block_index += 1

    x = _conv(round_filters(1280, outer_width), 1, "top_conv")(x)
    x = normalize(x, "top_bn")
    return layers.Activation(activation, name="top_activation")(x)


def _published_scaling(variant):
    if variant.lite:
        return LITE_SCALING
    return (
        [1 / (255 * deviation) for deviation in STDDEV],
        [-mean / deviation for mean, deviation in zip(MEAN, STDDEV)],
    )


def _block_counts(variant):
    counts = [math.ceil(stage.repeats * variant.depth) for stage in STAGES]
    if variant.lite:
        counts[0], counts[-1] = STAGES[0].repeats, STAGES[-1].repeats
    return counts


def _block(x, prefix, stage, drop_rate, attention, activation, normalize):
    """Inverted residual block with attention (MBConv), whose layer names begin with `prefix`."""
    inputs = x
    channels = x.shape[-1]
    expanded_channels = channels * stage.expansion
    if stage.expansion != 1:
        x = _conv(expanded_channels, 1, prefix + "expand_conv")(x)
        x = normalize(x, prefix + "expand_bn")
        x = layers.Activation(activation, name=prefix + "expand_activation")(x)

    padding = "same"
    if stage.stride == 2:
        x = layers.ZeroPadding2D(same_padding(x.shape, stage.kernel), name=prefix + "dwconv_pad")(x)
        padding = "valid"
    x = layers.DepthwiseConv2D(
        stage.kernel,
        strides=stage.stride,
        padding=padding,
        use_bias=False,
        depthwise_initializer=KERNEL_INITIALIZER,
        name=prefix + "dwconv",
    )(x)
    x = normalize(x, prefix + "bn")
    x = layers.Activation(activation, name=prefix + "activation")(x)

    squeezed_channels = max(1, int(channels * SQUEEZE_RATIO))
    if attention == "se":
        x = _squeeze_and_excite(x, squeezed_channels, prefix)
    elif attention == "cbam":
        x = CBAM(reduction=expanded_channels // squeezed_channels, name=prefix + "cbam")(x)

    x = _conv(stage.filters, 1, prefix + "project_conv")(x)
    x = normalize(x, prefix + "project_bn")
    if stage.stride == 1 and channels == stage.filters:
        if drop_rate > 0:
            x = layers.Dropout(drop_rate, noise_shape=(None, 1, 1, 1), name=prefix + "drop")(x)
        x = layers.Add(name=prefix + "add")([x, inputs])
    return x


def _squeeze_and_excite(x, hidden_channels, prefix):
    """A factor per channel, computed from the means of all channels.

    Hu et al. 2018, "Squeeze-and-Excitation Networks", section 3.
    """
    gate = layers.GlobalAveragePooling2D(keepdims=True, name=prefix + "se_squeeze")(x)
    gate = _conv(hidden_channels, 1, prefix + "se_reduce", activation="silu", use_bias=True)(gate)
    gate = _conv(x.shape[-1], 1, prefix + "se_expand", activation="sigmoid", use_bias=True)(gate)
    return layers.Multiply(name=prefix + "se_excite")([x, gate])


def _conv(filters, kernel, name, strides=1, padding="same", activation=None, use_bias=False):
    return layers.Conv2D(
        filters,
        kernel,
        strides=strides,
        padding=padding,
        activation=activation,
        use_bias=use_bias,
        kernel_initializer=KERNEL_INITIALIZER,
        name=name,
    )


def round_filters(count, width, divisor=8):
    """Scales a number of channels to a multiple of `divisor` near `count * width`.

    Args:
        count: int, channels of B0.
        width: float, the variant's factor.
        divisor: int, 1 or more.

    Returns:
        int, at least `divisor`, and less than 10 % below `count * width`.

    Example:
        >>> round_filters(40, 1.1)
        48
    """
    scaled_count = count * width
    rounded_count = max(divisor, int(scaled_count + divisor / 2) // divisor * divisor)
    return rounded_count + divisor if rounded_count < 0.9 * scaled_count else rounded_count


def same_padding(shape, kernel):
    """Padding for a convolution with a stride of 2.

    The numbers are those of `padding="same"`; the published models have a layer for them.

    Args:
        shape: tuple, (B, H, W, C) of the convolution's input.
        kernel: int, odd side of the convolution.

    Returns:
        ((top, bottom), (left, right)), in pixels.
    """
    radius = kernel // 2
    return tuple((radius - (1 - side % 2), radius) for side in shape[1:3])
