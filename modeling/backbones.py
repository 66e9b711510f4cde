"""The table of backbones with their sizes and costs. Imports no Keras.

`builder.build_model` builds them: EfficientNet from `efficientnet/`, the others from
`other_model.py`. A test compares the numbers with the built models.
"""

from typing import NamedTuple

HUB = "hub:"  # prefix of a KerasHub preset's name


class Backbone(NamedTuple):
    """Facts about a backbone that are known without building it.

    Attributes:
        family: str; backbones of a family have the same code and input scaling.
        parameters: int, number of parameters without the head and without the values of a
            Normalization layer.
        gflops: float, 10^9 multiply-adds per image at `input_size`, as the papers count.
        input_size: int, default side of the square input, in pixels.
        min_size: int, smallest side of the input, in pixels.
        dropout: float, default fraction of the features dropped before the head.
    """

    family: str
    parameters: int
    gflops: float
    input_size: int
    min_size: int = 32
    dropout: float = 0.2


TABLE = {
    "EfficientNetB0": Backbone("EfficientNet", 4_049_564, 0.385, 224),
    "EfficientNetB1": Backbone("EfficientNet", 6_575_232, 0.686, 240),
    "EfficientNetB2": Backbone("EfficientNet", 7_768_562, 0.992, 260, dropout=0.3),
    "EfficientNetB3": Backbone("EfficientNet", 10_783_528, 1.826, 300, dropout=0.3),
    "EfficientNetB4": Backbone("EfficientNet", 17_673_816, 4.392, 380, dropout=0.4),
    "EfficientNetB5": Backbone("EfficientNet", 28_513_520, 10.264, 456, dropout=0.4),
    "EfficientNetB6": Backbone("EfficientNet", 40_960_136, 19.065, 528, dropout=0.5),
    "EfficientNetB7": Backbone("EfficientNet", 64_097_680, 37.743, 600, dropout=0.5),
    "EfficientNetLite0": Backbone("EfficientNetLite", 3_413_024, 0.384, 224),
    "EfficientNetLite1": Backbone("EfficientNetLite", 4_189_344, 0.599, 240),
    "EfficientNetLite2": Backbone("EfficientNetLite", 4_869_168, 0.858, 260, dropout=0.3),
    "EfficientNetLite3": Backbone("EfficientNetLite", 6_992_768, 1.382, 280, dropout=0.3),
    "EfficientNetLite4": Backbone("EfficientNetLite", 11_837_936, 2.552, 300, dropout=0.3),
    "EfficientNetV2B0": Backbone("EfficientNetV2B", 5_919_312, 0.717, 224),
    "EfficientNetV2B1": Backbone("EfficientNetV2B", 6_931_124, 1.196, 240),
    "EfficientNetV2B2": Backbone("EfficientNetV2B", 8_769_374, 1.696, 260, dropout=0.3),
    "EfficientNetV2B3": Backbone("EfficientNetV2B", 12_930_622, 3.010, 300, dropout=0.3),
    "EfficientNetV2S": Backbone("EfficientNetV2", 20_331_360, 8.364, 384),
    "EfficientNetV2M": Backbone("EfficientNetV2", 53_150_388, 24.581, 480, dropout=0.3),
    "EfficientNetV2L": Backbone("EfficientNetV2", 117_746_848, 56.078, 480, dropout=0.4),
    "ConvNeXtTiny": Backbone("ConvNeXt", 27_820_128, 4.455, 224),
    "ConvNeXtSmall": Backbone("ConvNeXt", 49_454_688, 8.683, 224),
    "ConvNeXtBase": Backbone("ConvNeXt", 87_566_464, 15.354, 224),
    "ConvNeXtLarge": Backbone("ConvNeXt", 196_230_336, 34.360, 224),
    "ConvNeXtXLarge": Backbone("ConvNeXt", 348_147_968, 60.919, 224),
    "DenseNet121": Backbone("DenseNet", 7_037_504, 2.833, 224),
    "DenseNet169": Backbone("DenseNet", 12_642_880, 3.358, 224),
    "DenseNet201": Backbone("DenseNet", 18_321_984, 4.289, 224),
    "InceptionV3": Backbone("Inception", 21_802_784, 5.711, 299, min_size=75),
    "InceptionResNetV2": Backbone("Inception", 54_336_736, 13.154, 299, min_size=75),
    "MobileNet": Backbone("MobileNet", 3_228_864, 0.568, 224),
    "MobileNetV2": Backbone("MobileNetV2", 2_257_984, 0.299, 224),
    "MobileNetV3Small": Backbone("MobileNetV3", 939_120, 0.055, 224),
    "MobileNetV3Large": Backbone("MobileNetV3", 2_996_352, 0.214, 224),
    "NASNetMobile": Backbone("NASNet", 4_269_716, 0.563, 224),
    "NASNetLarge": Backbone("NASNet", 84_916_818, 23.779, 331),
    "ResNet50": Backbone("ResNet", 23_587_712, 3.856, 224),
    "ResNet101": Backbone("ResNet", 42_658_176, 7.568, 224),
    "ResNet152": Backbone("ResNet", 58_370_944, 11.280, 224),
    "ResNet50V2": Backbone("ResNetV2", 23_564_800, 3.480, 224),
    "ResNet101V2": Backbone("ResNetV2", 42_626_560, 7.192, 224),
    "ResNet152V2": Backbone("ResNetV2", 58_331_648, 10.905, 224),
    "SEResNet50": Backbone("ResNet", 24_114_176, 3.856, 224),
    "VGG16": Backbone("VGG", 14_714_688, 15.347, 224),
    "VGG19": Backbone("VGG", 20_024_384, 19.508, 224),
    "Xception": Backbone("Xception", 20_861_480, 8.355, 299, min_size=71),
}


def find(name):
    """Looks a backbone up.

    Args:
        name: str, a key of `TABLE`, or "hub:PRESET".

    Returns:
        `Backbone`, or None for a KerasHub preset, about which nothing is known here.

    Raises:
        KeyError: there is no such backbone.

    Example:
        >>> find("EfficientNetB0").input_size
        224
    """
    return None if name.startswith(HUB) else TABLE[name]
