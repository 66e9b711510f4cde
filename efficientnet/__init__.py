"""EfficientNet B0 to B7 and Lite0 to Lite4: the variants, the network, and their ImageNet weights.

Tan and Le 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks". The
Lite variants are those of the reference code's folder `lite`: no squeeze-and-excitation, ReLU6
in place of swish, stem and head of one size, so that they quantize well and are fast on small
devices. This file imports no Keras, because options are checked with it.
"""

from typing import NamedTuple


class Variant(NamedTuple):
    """Scaling of one EfficientNet (section 3.3 of the paper, and its reference code).

    Attributes:
        width: float, factor on the channels of every layer; of a Lite variant not of the stem
            and the head.
        depth: float, factor on the number of blocks per stage; of a Lite variant not of the
            first and the last stage.
        input_size: int, side of the square input it was designed for, in pixels.
        dropout: float, dropout rate before the head that it was trained with.
        lite: bool, whether it has ReLU6 and no squeeze-and-excitation.
    """

    width: float
    depth: float
    input_size: int
    dropout: float
    lite: bool = False


VARIANTS = {
    "EfficientNetB0": Variant(1.0, 1.0, 224, 0.2),
    "EfficientNetB1": Variant(1.0, 1.1, 240, 0.2),
    "EfficientNetB2": Variant(1.1, 1.2, 260, 0.3),
    "EfficientNetB3": Variant(1.2, 1.4, 300, 0.3),
    "EfficientNetB4": Variant(1.4, 1.8, 380, 0.4),
    "EfficientNetB5": Variant(1.6, 2.2, 456, 0.4),
    "EfficientNetB6": Variant(1.8, 2.6, 528, 0.5),
    "EfficientNetB7": Variant(2.0, 3.1, 600, 0.5),
    "EfficientNetLite0": Variant(1.0, 1.0, 224, 0.2, lite=True),
    "EfficientNetLite1": Variant(1.0, 1.1, 240, 0.2, lite=True),
    "EfficientNetLite2": Variant(1.1, 1.2, 260, 0.3, lite=True),
    "EfficientNetLite3": Variant(1.2, 1.4, 280, 0.3, lite=True),
    "EfficientNetLite4": Variant(1.4, 1.8, 300, 0.3, lite=True),
}
