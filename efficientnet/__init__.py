"""EfficientNet B0 to B7: what the variants are, the network, its ImageNet weights.

Source: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional
Neural Networks", 2019. This file imports no Keras: options are checked with it.
"""

from typing import NamedTuple


class Variant(NamedTuple):
    """Scaling of one EfficientNet (paper, section 3.3, and its reference code).

    Attributes:
        width: factor on channels.
        depth: factor on the blocks of a stage.
        input_size: side of the square input it was made for, in pixels.
        dropout: dropout rate before the head that it was trained with.
    """

    width: float
    depth: float
    input_size: int
    dropout: float


VARIANTS = {
    "EfficientNetB0": Variant(1.0, 1.0, 224, 0.2),
    "EfficientNetB1": Variant(1.0, 1.1, 240, 0.2),
    "EfficientNetB2": Variant(1.1, 1.2, 260, 0.3),
    "EfficientNetB3": Variant(1.2, 1.4, 300, 0.3),
    "EfficientNetB4": Variant(1.4, 1.8, 380, 0.4),
    "EfficientNetB5": Variant(1.6, 2.2, 456, 0.4),
    "EfficientNetB6": Variant(1.8, 2.6, 528, 0.5),
    "EfficientNetB7": Variant(2.0, 3.1, 600, 0.5),
}
