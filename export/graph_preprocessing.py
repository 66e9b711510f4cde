"""Image files to the model's input inside TensorFlow's graph, for clients without this project.

The steps are those of `data.decoding.load` with TensorFlow's own operations: JPEG, PNG, WebP and
BMP, greyscale and transparent ones included, turned upright by their EXIF orientation. Other
formats, and files that TensorFlow would decode to something else than `data.decoding`, are
refused with an error that names them: HEIC, AVIF, TIFF, GIF, animations, BMP with a palette or an
alpha channel. JPEGs are decoded in full and not at a reduced scale, and their colours
interpolated: pixels differ from those of `data.decoding` by a level or two on average.
"""

from export import graph_headers


def decode(content, preprocessing):
    """Decodes one image and resizes it to a square.

    Args:
        content: scalar string tensor, the bytes of an image file.
        preprocessing: `geometry.Preprocessing`.

    Returns:
        uint8 tensor (S, S, 3), RGB.

    Raises:
        tf.errors.InvalidArgumentError: when it runs, for a file that is not supported.
    """
    import tensorflow as tf

    content = tf.convert_to_tensor(content)
    data = graph_headers.file_bytes(content)
    name = graph_headers.format_names(data)
    problem = tf.where(name == "", "is of an unknown format", tf.strings.join(["is ", name]))
    is_supported = tf.reduce_any(name == list(graph_headers.SUPPORTED))
    with tf.control_dependencies([_refuse(tf.where(is_supported, "", problem))]):
        name = tf.identity(name)
    decoders = {"JPEG": _jpeg, "PNG": _png, "WebP": _webp, "BMP": _bmp}
    image = tf.case(
        [
            (name == format_name, lambda decoder=decoder: decoder(content, data))
            for format_name, decoder in decoders.items()
        ],
        default=lambda: tf.zeros((1, 1, 3), tf.uint8),  # refused above
    )
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


def _refuse(problem):
    """An operation that fails with a message unless `problem`, a string tensor, is empty."""
    import tensorflow as tf

    advice = f"; predict_bytes takes {', '.join(graph_headers.SUPPORTED)}: convert the image"
    return tf.debugging.Assert(problem == "", [tf.strings.join(["the image ", problem, advice])])


def _jpeg(content, data):
    import tensorflow as tf

    parts = graph_headers.jpeg_parts(data)
    has_adobe, has_four = (parts.has(remark) for remark in ("ADOBE", "FOUR_COLORS"))
    # Whether such colours are inverted, nothing in the file says.
    problem = tf.where(has_four & ~has_adobe, "is CMYK JPEG without the mark of Adobe", "")
    return _upright(lambda: tf.io.decode_image(content, channels=3), data, parts, problem)


def _png(content, data):
    import tensorflow as tf

    parts = graph_headers.png_parts(data)
    has_transparency = parts.has("TRANSPARENCY")
    bits, color_type = graph_headers.number(data, 24, 1), graph_headers.number(data, 25, 1)
    is_deep = (bits == 16) & (color_type == graph_headers.PNG_RGB) & has_transparency
    problem = tf.where(is_deep, "is PNG of 16 bits with a transparent colour", "")
    problem = tf.where(parts.has("EXIF_AS_TEXT"), "is PNG with its EXIF block as text", problem)

    def decode_file():
        # Otherwise a transparent colour is ignored; but grey of 1 to 4 bits gets a wrong opacity.
        return tf.cond(
            has_transparency,
            lambda: tf.io.decode_png(content, channels=4),
            lambda: tf.io.decode_png(content),
        )

    return _upright(decode_file, data, parts, problem)


def _webp(content, data):
    import tensorflow as tf

    flags = graph_headers.number(data, 20, 1)
    is_animated = graph_headers.starts_with(data, 12, b"VP8X") & (flags // 2 % 2 == 1)
    problem = tf.where(is_animated, "is animated WebP", "")
    parts = graph_headers.webp_parts(data)

    def decode_file():
        return tf.io.decode_image(content, expand_animations=False)

    return _upright(decode_file, data, parts, problem)


def _bmp(content, data):
    import tensorflow as tf

    with tf.control_dependencies([_refuse(graph_headers.bmp_problem(content, data))]):
        return tf.io.decode_bmp(tf.identity(content))[:, :, :3]


def _upright(decode_file, data, parts, problem):
    """What `geometry.apply_orientation` does to what `decode_file` gives, unless it is refused."""
    import tensorflow as tf

    problem = tf.where(parts.unread > 0, "has too many parts", problem)
    with tf.control_dependencies([_refuse(problem)]):
        image = tf.ensure_shape(decode_file(), (None, None, None))
    orientation = graph_headers.orientation(data, parts.exif)

    def matches(*orientations):
        return tf.reduce_any(orientation == orientations)

    image = tf.cond(matches(5, 6, 7, 8), lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
    image = tf.cond(matches(2, 3, 6, 7), lambda: image[:, ::-1], lambda: image)
    return tf.cond(matches(3, 4, 7, 8), lambda: image[::-1], lambda: image)


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
