"""Where Keras publishes the ImageNet weights of EfficientNet B0 to B7."""

STORE = "https://storage.googleapis.com/keras-applications/"

# MD5 of each file without its classification head, as Keras publishes them
MD5 = {
    "EfficientNetB0": "50bc09e76180e00e4465e1a485ddc09d",
    "EfficientNetB1": "74c4e6b3e1f6a1eea24c589628592432",
    "EfficientNetB2": "111f8e2ac8aa800a7a99e3239f7bfb39",
    "EfficientNetB3": "af6d107764bb5b1abb91932881670226",
    "EfficientNetB4": "ebc24e6d6c33eaebbd558eafbeedf1ba",
    "EfficientNetB5": "38879255a25d3c92d5e44e04ae6cec6f",
    "EfficientNetB6": "9ecce42647a20130c1f39a5d4cb75743",
    "EfficientNetB7": "cbcfe4450ddf6f3ad90b1b398090fe4a",
}


def imagenet_file(name):
    """The file with the ImageNet weights of a variant, without its classification layer.

    Args:
        name: str, a key of `efficientnet.VARIANTS`.

    Returns:
        (file name, URL, MD5): three str.

    Example:
        >>> imagenet_file("EfficientNetB0")[0]
        'efficientnetb0_notop.h5'
    """
    file_name = f"{name.lower()}_notop.h5"
    return file_name, STORE + file_name, MD5[name]
