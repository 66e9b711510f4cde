"""A file's bytes to the model's input inside TensorFlow's graph, for clients without this project.

The steps are those of `preprocess`, by TensorFlow's own operations: JPEG, PNG, WebP, BMP and GIF
(first frame), grey and transparent ones included. What TensorFlow cannot do is left out: the EXIF
orientation is not applied, and TIFF and CMYK are refused. JPEGs are decoded whole and not at a
reduced scale, and their colours interpolated: pixels differ from those of `preprocess` by a level
or two in the mean.
"""


def decode(data, preprocessing):
    """Decodes and fits one image.

    Args:
        data: a scalar string tensor, a file's bytes.
        preprocessing: `geometry.Preprocessing`.

    Returns:
        uint8 tensor (S, S, 3), RGB.
    """
    import tensorflow as tf

    image = tf.io.decode_image(data, channels=0, expand_animations=False)
    image = tf.cast(image, tf.float32)
    channels = tf.shape(image)[2]
    color = tf.cond(
        channels < 3, lambda: tf.repeat(image[:, :, :1], 3, axis=2), lambda: image[:, :, :3]
    )
    fill = tf.constant(preprocessing.fill_color, tf.float32)
    # Grey and RGB have an odd number of channels; with one more, the last is the opacity.
    color = tf.cond(
        channels % 2 == 0, lambda: fill + (color - fill) * image[:, :, -1:] / 255, lambda: color
    )
    return tf.ensure_shape(
        tf.cast(tf.round(_fit(color, preprocessing, fill)), tf.uint8),
        (preprocessing.size, preprocessing.size, 3),
    )


def _fit(image, preprocessing, fill):
    """As `geometry.resize_to_square`: letterboxed, cut, or distorted to a square."""
    import tensorflow as tf

    size = preprocessing.size
    shape = tf.shape(image)[:2]
    if preprocessing.resize == "crop":
        side = tf.reduce_min(shape)
        start = (shape - side) // 2
        image = image[start[0] : start[0] + side, start[1] : start[1] + side]
        return _resize(image, tf.constant([size, size]))
    if preprocessing.resize == "stretch":
        return _resize(image, tf.constant([size, size]))
    scale = size / tf.reduce_max(shape)
    target = tf.maximum(1, tf.cast(tf.round(tf.cast(shape, tf.float64) * scale), tf.int32))
    before = (size - target) // 2
    after = size - target - before
    image = _resize(image, target) - fill  # bars are zeros beside it
    image = tf.pad(image, [[before[0], after[0]], [before[1], after[1]], [0, 0]])
    return image + fill


def _resize(image, target):
    """Bilinear, but means over areas where a side becomes less than half, as `preprocess` does."""
    import tensorflow as tf

    shape = tf.shape(image)[:2]
    smaller = tf.minimum(shape, target)
    image = tf.cond(
        tf.reduce_any(shape >= 2 * target),
        lambda: tf.image.resize(image, smaller, "area"),
        lambda: image,
    )
    return tf.image.resize(image, target, "bilinear")
