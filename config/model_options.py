"""Options about the network and its input.

`config/options.py` says what an `Option` is.
"""

from config.options import Option, Search
from config.value_types import BACKBONE, COLOR, NORMALIZATION, URL, WEIGHTS, choice, number, whole

MODEL_OPTIONS = (
    Option(
        name="backbone",
        type=BACKBONE,
        default="EfficientNetB0",
        help="network that extracts the image features; --mode backbones lists them, hub:PRESET "
        "takes one from KerasHub",
        group="Model",
        saved=True,
        search=Search(choices=("EfficientNetLite0", "EfficientNetB0", "MobileNetV3Large")),
    ),
    Option(
        name="weights",
        type=WEIGHTS,
        default="imagenet",
        help="initial weights: pretrained on ImageNet, random (none), or read from a weights file",
        group="Model",
        saved=True,
    ),
    Option(
        name="weights_url",
        type=URL,
        default=None,
        default_text="the environment variable WEIGHTS_URL, else Keras's own store",
        help="mirror to download ImageNet weights from: Keras's files under their own paths",
        group="Model",
        resumable=True,
    ),
    Option(
        name="input_size",
        type=whole(32, 4096),
        default=None,
        default_text="the usual one of the backbone, 224 for EfficientNetB0",
        unit="pixels",
        help="height and width of the model's input",
        group="Model",
        saved=True,
        search=Search(choices=(128, 160, 192, 224, 256, 288)),
    ),
    Option(
        name="resize",
        type=choice("letterbox", "crop", "stretch"),
        default="stretch",
        help="how an image becomes square: padded (letterbox), cropped to its centre, or stretched",
        group="Model",
        saved=True,
        search=Search(),
    ),
    Option(
        name="fill_color",
        type=COLOR,
        default=(255, 255, 255),
        help="colour of the padding and of transparent pixels",
        group="Model",
        saved=True,
    ),
    Option(
        name="dropout",
        type=number(0, 1, below=True),
        default=None,
        default_text="the usual one of the backbone, 0.2 for EfficientNetB0",
        unit="fraction",
        help="dropout rate of the features before the classification head; 0 disables it",
        group="Model",
        saved=True,
        search=Search(0, 0.5),
    ),
    Option(
        name="drop_connect",
        type=number(0, 1, below=True),
        default=None,
        default_text="0.2 from scratch, 0 from pretrained weights",
        unit="probability",
        help="stochastic depth: probability of skipping the last block in training, smaller for "
        "earlier blocks; 0 disables it",
        group="Model",
        saved=True,
        search=Search(0, 0.4),
    ),
    Option(
        name="attention",
        type=choice("none", "cbam"),
        default="none",
        help="attention module after the backbone",
        group="Model",
        saved=True,
        search=Search(),
    ),
    Option(
        name="block_attention",
        type=choice("se", "cbam", "none"),
        default="se",
        help="attention module inside the blocks of EfficientNetB0 to B7",
        group="Model",
        saved=True,
    ),
    Option(
        name="pooling",
        type=choice("avg", "max", "gem", "bilinear", "compact_bilinear"),
        default="avg",
        help="pooling of the feature map to one feature vector",
        group="Model",
        saved=True,
        search=Search(choices=("avg", "max", "gem")),
    ),
    Option(
        name="bilinear_dim",
        type=whole(1, 65536),
        default=None,
        default_text="all channels of the feature map",
        unit="channels",
        help="output channels of the 1x1 convolution before --pooling bilinear",
        group="Model",
        saved=True,
    ),
    Option(
        name="head",
        type=choice("linear", "prototype", "neighbours"),
        default=None,
        default_text="a linear layer that learns with the network",
        help="solve the head on the features of the frozen backbone, without gradient descent: "
        "logistic regression (linear), or votes by the cosine to the mean of each class "
        "(prototype) or to each training image (neighbours)",
        group="Model",
        saved=True,
    ),
    Option(
        name="neighbour_count",
        type=whole(1, 1_000_000),
        default=None,
        default_text="all training images and their mirror images, at most 20,000",
        unit="images",
        help="images that --head neighbours keeps in the model",
        group="Model",
        saved=True,
    ),
    Option(
        name="norm",
        type=choice("batch", "group"),
        default="batch",
        help="normalization layers of the backbone; group normalization does not depend on "
        "--batch_size",
        group="Model",
        saved=True,
    ),
    Option(
        name="normalize",
        type=NORMALIZATION,
        default=None,
        default_text="the scaling of the backbone",
        help="normalise the input by the mean and standard deviation of your own data",
        group="Model",
        saved=True,
    ),
    Option(
        name="runtime",
        type=choice("auto", "openvino", "onnx", "litert", "savedmodel"),
        default="auto",
        help="runtime that computes an exported model; auto takes the fastest file, a runtime's "
        "name the most precise file of that runtime",
        group="Model",
    ),
    Option(
        name="tta",
        type=choice("none", "flip", "five_crop"),
        default="none",
        help="test-time augmentation: average the predictions for an image and its mirror image "
        "(flip), or for its four corners and its centre (five_crop)",
        group="Model",
    ),
)
