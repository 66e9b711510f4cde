"""What a classifier consists of, as plain values. Imports no Keras."""

from typing import NamedTuple


class Architecture(NamedTuple):
    """Everything that decides the graph of a classifier except its number of classes.

    `builder.build_model` builds it; `runs.run_folder.architecture` reads it from the options
    of a training.

    Attributes:
        backbone: str, a key of `backbones.TABLE`, or "hub:PRESET" for a KerasHub preset.
        input_size: int, side S of the square input, in pixels; at least the backbone's
            `min_size`.
        dropout: float, fraction of the features dropped before the classification layer,
            at least 0 and below 1; 0 leaves the layer out.
        drop_connect: float, stochastic depth of an EfficientNet (V2 too) or ConvNeXt: the
            probability that a block is skipped grows from 0 at the first block to about this
            at the last. Other backbones have none.
        attention: str, "none", or "cbam" for a CBAM layer after the backbone.
        block_attention: str, "se" (squeeze-and-excitation, as published), "cbam" or "none",
            inside the blocks of EfficientNet B0 to B7; the others take "se" alone.
        pooling: str, "avg", "max", "gem", "bilinear" or "compact_bilinear".
        bilinear_dim: int, channels that a 1x1 convolution leaves for "bilinear", which gives
            the square of it; None takes all channels of the backbone.
        norm: str, "batch" or "group", the normalization inside the backbone.
        normalize: six floats in pixel values 0-255, the means and then the standard
            deviations of red, green and blue, which scale the input; None is the scaling
            that the backbone's published weights were trained with.
        head: str, what turns features into probabilities: "linear" (None is the same) for a
            linear layer, "prototype" for one behind features of unit length, "neighbours" for a
            layer of photos behind these, whose votes the linear layer adds up.
        neighbour_count: int, photos in the layer of "neighbours", else None.

    Example:
        >>> Architecture("EfficientNetB0", 224)._replace(pooling="gem").pooling
        'gem'
    """

    backbone: str
    input_size: int
    dropout: float = 0.2
    drop_connect: float = 0.2
    attention: str = "none"
    block_attention: str = "se"
    pooling: str = "avg"
    bilinear_dim: int | None = None
    norm: str = "batch"
    normalize: tuple | None = None
    head: str | None = None
    neighbour_count: int | None = None
