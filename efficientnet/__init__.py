"""EfficientNet B0 to B7: the variants, the network, and where its ImageNet weights are.

Tan and Le 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks".
This file imports no Keras, because options are checked with it.
"""

from typing import NamedTuple


class Variant(NamedTuple):
    """Scaling of one EfficientNet (section 3.3 of the paper, and its reference code).

    Attributes:
        width: float, factor on the channels of every layer.
        depth: float, factor on the number of blocks per stage.
        input_size: int, side of the square input it was designed for, in pixels.
        dropout: float, dropout rate before the head that it was trained with.
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
