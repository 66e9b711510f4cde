"""The EfficientNet graph, up to its last feature map.

Layer order, layer names and weight shapes are those of the published models, as
`keras.applications` has them, so its weight files fit. Departures, and why:

- Input scaling is one layer with fixed numbers, the same with and without
  pretrained weights. `keras.applications` has a Normalization layer (7 more
  values) and, only with ImageNet weights, another one after it; together they
  compute just what this one layer does.
- BatchNorm momentum is 0.9, not 0.99: with some hundred steps in all, 0.99 leaves
  the moving statistics so far behind that validation stays at chance.
"""

import math
from typing import NamedTuple

from keras import layers

from CBAM import CBAM
from efficientnet import VARIANTS

MEAN = (0.485, 0.456, 0.406)  # of ImageNet, RGB, of pixels in 0-1
STDDEV = (0.229, 0.224, 0.225)


class Stage(NamedTuple):
    """A row of the paper's table 1: blocks that share a kernel and a width."""

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
SQUEEZE = 0.25  # of the block's input channels, inside squeeze-and-excitation

# He et al. 2015, over fan-out, as the reference code initialises its convolutions.
KERNEL_INITIALIZER = {
    "class_name": "VarianceScaling",
    "config": {"scale": 2.0, "mode": "fan_out", "distribution": "truncated_normal"},
}


def efficientnet(x, name, drop_connect=0.2, attention="se", momentum=0.9, scaling=None):
    """Adds an EfficientNet to a graph.

    Args:
        x: Keras tensor (B, S, S, 3), RGB in 0-255, of any dtype.
        name: a key of `VARIANTS`.
        drop_connect: stochastic depth; the chance that a block is skipped grows
            from 0 at the first block to nearly this at the last.
        attention: inside each block: "se" (squeeze-and-excitation, as published),
            "cbam" or "none".
        momentum: momentum of the moving statistics of every BatchNorm.
        scaling: (scale, offset) of pixels in 0-255, RGB, each three numbers; None is
            ImageNet's mean and deviation, with which the published weights were trained.

    Returns:
        Keras tensor (B, S/32, S/32, channels), rounded up; channels are 1280 for B0.
    """
    variant = VARIANTS[name]

    def filters(count):
        return round_filters(count, variant.width)

    def normalize(x, label):
        return layers.BatchNormalization(momentum=momentum, name=label)(x)

    scale, offset = scaling or (
        [1 / (255 * deviation) for deviation in STDDEV],
        [-mean / deviation for mean, deviation in zip(MEAN, STDDEV)],
    )
    # In float32 under mixed precision too: half precision would round the pixels.
    x = layers.Rescaling(scale, offset, dtype="float32", name="input_scaling")(x)
    x = layers.ZeroPadding2D(same_padding(x.shape, 3), name="stem_conv_pad")(x)
    x = _conv(filters(32), 3, "stem_conv", strides=2, padding="valid")(x)
    x = normalize(x, "stem_bn")
    x = layers.Activation("silu", name="stem_activation")(x)

    repeats = [math.ceil(stage.repeats * variant.depth) for stage in STAGES]
    done = 0
    for number, (stage, count) in enumerate(zip(STAGES, repeats), 1):
        for repeat in range(count):
            x = _block(
                x,
                f"block{number}{chr(ord('a') + repeat)}_",
                stage._replace(
                    filters=filters(stage.filters), stride=1 if repeat else stage.stride
                ),
                drop_connect * done / sum(repeats),
                attention,
                normalize,
            )
            done += 1

    x = _conv(filters(1280), 1, "top_conv")(x)
    x = normalize(x, "top_bn")
    return layers.Activation("silu", name="top_activation")(x)


def _block(x, name, stage, drop_rate, attention, normalize):
    """Inverted residual block with attention (MBConv)."""
    inputs = x
    channels = x.shape[-1]
    expanded = channels * stage.expansion
    if stage.expansion != 1:
        x = _conv(expanded, 1, name + "expand_conv")(x)
        x = normalize(x, name + "expand_bn")
        x = layers.Activation("silu", name=name + "expand_activation")(x)

    padding = "same"
    if stage.stride == 2:
        x = layers.ZeroPadding2D(same_padding(x.shape, stage.kernel), name=name + "dwconv_pad")(x)
        padding = "valid"
    x = layers.DepthwiseConv2D(
        stage.kernel,
        strides=stage.stride,
        padding=padding,
        use_bias=False,
        depthwise_initializer=KERNEL_INITIALIZER,
        name=name + "dwconv",
    )(x)
    x = normalize(x, name + "bn")
    x = layers.Activation("silu", name=name + "activation")(x)

    squeezed = max(1, int(channels * SQUEEZE))
    if attention == "se":
        x = _squeeze_and_excite(x, squeezed, name)
    elif attention == "cbam":
        x = CBAM(reduction=expanded // squeezed, name=name + "cbam")(x)

    x = _conv(stage.filters, 1, name + "project_conv")(x)
    x = normalize(x, name + "project_bn")
    if stage.stride == 1 and channels == stage.filters:
        if drop_rate > 0:
            x = layers.Dropout(drop_rate, noise_shape=(None, 1, 1, 1), name=name + "drop")(x)
        x = layers.Add(name=name + "add")([x, inputs])
    return x


def _squeeze_and_excite(x, hidden, name):
    """Hu et al. 2018: each channel weighed by what the mean of all channels says."""
    gate = layers.GlobalAveragePooling2D(keepdims=True, name=name + "se_squeeze")(x)
    gate = _conv(hidden, 1, name + "se_reduce", activation="silu", use_bias=True)(gate)
    gate = _conv(x.shape[-1], 1, name + "se_expand", activation="sigmoid", use_bias=True)(gate)
    return layers.Multiply(name=name + "se_excite")([x, gate])


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
    """Scales a channel count to a multiple of `divisor`, at most 10 % below `count * width`."""
    scaled = count * width
    rounded = max(divisor, int(scaled + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * scaled else rounded


def same_padding(shape, kernel):
    """Padding ((top, bottom), (left, right)) for a stride of 2, as the published weights expect.

    TensorFlow's "same" puts the odd pixel after the image; for even sizes the two
    agree, for odd sizes one more pixel stands in front.
    """
    half = kernel // 2
    return tuple((half - (1 - side % 2), half) for side in shape[1:3])
