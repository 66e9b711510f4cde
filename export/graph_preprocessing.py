"""Image files to the model's input inside TensorFlow's graph, for clients without this project.

The steps are those of `data.decoding.load` with TensorFlow's own operations: JPEG, PNG, WebP, BMP
and GIF (first frame), greyscale and transparent ones included. What TensorFlow cannot do is left
out: the EXIF orientation is not applied, and TIFF and CMYK are refused. JPEGs are decoded in full
and not at a reduced scale, and their colours interpolated: pixels differ from those of
`data.decoding` by a level or two on average.
"""


def decode(content, preprocessing):
    """Decodes one image and resizes it to a square.

    Args:
        content: scalar string tensor, the bytes of an image file.
        preprocessing: `geometry.Preprocessing`.

    Returns:
        uint8 tensor (S, S, 3), RGB.
    """
    import tensorflow as tf

    image = tf.io.decode_image(content, channels=0, expand_animations=False)
    image = tf.cast(image, tf.float32)
    channel_count = tf.shape(image)[2]
    color_image = tf.cond(
        channel_count < 3, lambda: tf.repeat(image[:, :, :1], 3, axis=2), lambda: image[:, :, :3]
    )
    fill_color = tf.constant(preprocessing.fill_color, tf.float32)
    # Greyscale and RGB have an odd number of channels; with one more, the last is the opacity.
    color_image = tf.cond(
        channel_count % 2 == 0,
        lambda: fill_color + (color_image - fill_color) * image[:, :, -1:] / 255,
        lambda: color_image,
    )
    return tf.ensure_shape(
        tf.cast(tf.round(_resize_to_square(color_image, preprocessing, fill_color)), tf.uint8),
        (preprocessing.size, preprocessing.size, 3),
    )


def _resize_to_square(image, preprocessing, fill_color):
    """What `geometry.resize_to_square` does: letterbox, crop or stretch."""
    import tensorflow as tf

    size = preprocessing.size
    image_shape = tf.shape(image)[:2]
    if preprocessing.resize == "crop":
        crop_side = tf.reduce_min(image_shape)
        corner = (image_shape - crop_side) // 2
        image = image[corner[0] : corner[0] + crop_side, corner[1] : corner[1] + crop_side]
        return _resize(image, tf.constant([size, size]))
    if preprocessing.resize == "stretch":
        return _resize(image, tf.constant([size, size]))
    scale = size / tf.reduce_max(image_shape)
    scaled_shape = tf.round(tf.cast(image_shape, tf.float64) * scale)
    target_shape = tf.maximum(1, tf.cast(scaled_shape, tf.int32))
    before = (size - target_shape) // 2
    after = size - target_shape - before
    image = _resize(image, target_shape) - fill_color  # tf.pad fills with zeros
    image = tf.pad(image, [[before[0], after[0]], [before[1], after[1]], [0, 0]])
    return image + fill_color


def _resize(image, target_shape):
    """Bilinear, but area averages where a side shrinks to less than half, as in `geometry`."""
    import tensorflow as tf

    image_shape = tf.shape(image)[:2]
    smaller_shape = tf.minimum(image_shape, target_shape)
    image = tf.cond(
        tf.reduce_any(image_shape >= 2 * target_shape),
        lambda: tf.image.resize(image, smaller_shape, "area"),
        lambda: image,
    )
    return tf.image.resize(image, target_shape, "bilinear")
