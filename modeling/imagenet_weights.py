"""Where Keras publishes the ImageNet weights of each backbone. Imports no Keras."""

import os

import efficientnet.weights as efficientnet_weights

STORE = "https://storage.googleapis.com/tensorflow/keras-applications/"
KERNELS = "_weights_tf_dim_ordering_tf_kernels_notop.h5"

# Backbone -> path below STORE and checksum (MD5 or SHA-256) of the file without a classification
# layer; for the two MobileNets Keras publishes no checksum.
FILES = {
    "ConvNeXtBase": (
        "convnext/convnext_base_notop.h5",
        "40a20c5548a5e9202f69735ecc06c990e6b7c9d2de39f0361e27baeb24cb7c45",
    ),
    "ConvNeXtLarge": (
        "convnext/convnext_large_notop.h5",
        "96f02b6f0753d4f543261bc9d09bed650f24dd6bc02ddde3066135b63d23a1cd",
    ),
    "ConvNeXtSmall": (
        "convnext/convnext_small_notop.h5",
        "6fc8009faa2f00c1c1dfce59feea9b0745eb260a7dd11bee65c8e20843da6eab",
    ),
    "ConvNeXtTiny": (
        "convnext/convnext_tiny_notop.h5",
        "d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1",
    ),
    "ConvNeXtXLarge": (
        "convnext/convnext_xlarge_notop.h5",
        "de3f8a54174130e0cecdc71583354753d557fcf1f4487331558e2a16ba0cfe05",
    ),
    "DenseNet121": ("densenet/densenet121" + KERNELS, "30ee3e1110167f948a6b9946edeeb738"),
    "DenseNet169": ("densenet/densenet169" + KERNELS, "b8c4d4c20dd625c148057b9ff1c1176b"),
    "DenseNet201": ("densenet/densenet201" + KERNELS, "c13680b51ded0fb44dff2d8f86ac8bb1"),
    "EfficientNetV2B0": (
        "efficientnet_v2/efficientnetv2-b0_notop.h5",
        "893217f2bb855e2983157299931e43ff",
    ),
    "EfficientNetV2B1": (
        "efficientnet_v2/efficientnetv2-b1_notop.h5",
        "0e80663031ca32d657f9caa404b6ec37",
    ),
    "EfficientNetV2B2": (
        "efficientnet_v2/efficientnetv2-b2_notop.h5",
        "1dfe2e7a5d45b6632553a8961ea609eb",
    ),
    "EfficientNetV2B3": (
        "efficientnet_v2/efficientnetv2-b3_notop.h5",
        "f6abf7b5849ac99a89b50dd3fd532856",
    ),
    "EfficientNetV2L": (
        "efficientnet_v2/efficientnetv2-l_notop.h5",
        "b0b66b5c863aef5b46e8608fe1711615",
    ),
    "EfficientNetV2M": (
        "efficientnet_v2/efficientnetv2-m_notop.h5",
        "1b8dc055df72dde80d614482840fe342",
    ),
    "EfficientNetV2S": (
        "efficientnet_v2/efficientnetv2-s_notop.h5",
        "af0682fb74e8c54910f2d4393339c070",
    ),
    "InceptionResNetV2": (
        "inception_resnet_v2/inception_resnet_v2" + KERNELS,
        "d19885ff4a710c122648d3b5c3b684e4",
    ),
    "InceptionV3": ("inception_v3/inception_v3" + KERNELS, "bcbd6486424b2319ff4ef7d526e38f63"),
    "MobileNet": ("mobilenet/mobilenet_1_0_224_tf_no_top.h5", None),
    "MobileNetV2": (
        "mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5",
        None,
    ),
    "MobileNetV3Large": (
        "mobilenet_v3/weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5",
        "07fb09a5933dd0c8eaafa16978110389",
    ),
    "MobileNetV3Small": (
        "mobilenet_v3/weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5",
        "d3e8ec802a04aa4fc771ee12a9a9b836",
    ),
    "NASNetLarge": ("nasnet/NASNet-large-no-top.h5", "d81d89dc07e6e56530c4e77faddd61b5"),
    "NASNetMobile": ("nasnet/NASNet-mobile-no-top.h5", "1ed92395b5b598bdda52abe5c0dbfd63"),
    "ResNet101": ("resnet/resnet101" + KERNELS, "88cf7a10940856eca736dc7b7e228a21"),
    "ResNet101V2": ("resnet/resnet101v2" + KERNELS, "c0ed64b8031c3730f411d2eb4eea35b5"),
    "ResNet152": ("resnet/resnet152" + KERNELS, "ee4c566cf9a93f14d82f913c2dc6dd0c"),
    "ResNet152V2": ("resnet/resnet152v2" + KERNELS, "ed17cf2e0169df9d443503ef94b23b33"),
    "ResNet50": ("resnet/resnet50" + KERNELS, "4d473c1dd8becc155b73f8504c6f6626"),
    "ResNet50V2": ("resnet/resnet50v2" + KERNELS, "fac2f116257151a9d068a22e544a4917"),
    "VGG16": ("vgg16/vgg16" + KERNELS, "6d6bbae143d832006294945121d1f1fc"),
    "VGG19": ("vgg19/vgg19" + KERNELS, "253f8cb515780f3b799900260a226db6"),
    "Xception": ("xception/xception" + KERNELS, "b0042744bf5b25fce3cb969f33bebb97"),
    "SEResNet50": ("resnet/resnet50" + KERNELS, "4d473c1dd8becc155b73f8504c6f6626"),
}
# Names in Keras's cache that are not the last part of the path
CACHE_NAMES = {"NASNetLarge": "nasnet_large_no_top.h5", "NASNetMobile": "nasnet_mobile_no_top.h5"}


def imagenet_file(name):
    """The file with the ImageNet weights of a backbone, without its classification layer.

    Args:
        name: str, a key of `backbones.TABLE`.

    Returns:
        (file name, URL, checksum): str, str, and an MD5 or SHA-256 as str, or None.

    Example:
        >>> imagenet_file("ResNet50")[0]
        'resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5'
    """
    if name in efficientnet_weights.MD5:
        return efficientnet_weights.imagenet_file(name)
    file_path, checksum = FILES[name]
    file_name = CACHE_NAMES.get(name, file_path.split("/")[-1])
    return file_name, STORE + file_path, checksum


def cache_folder():
    """The folder in which Keras keeps downloaded weights.

    Returns:
        str, path of a folder that may not exist yet.
    """
    keras_home = os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")
    return os.path.join(keras_home, "models")
