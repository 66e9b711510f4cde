"""Charts and a table of a data set: images per class, their sizes and shapes."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from common import console, output_places
from common.errors import ImageError, first_ten
from common.tables import write_table
from config.mode_options import StatisticsOptions
from data import remote_places
from data.decoding_limits import MAX_PIXELS
from data.file_signatures import HEAD_BYTES
from data.labelled_data import read_labelled
from data.photo_files import is_packed, open_photo
from data.pillow_formats import explain, forget_xmp, open_image
from other.reporting import fonts
from other.reporting.charts import check_output_folder, drawing, output_folder, save
from other.reporting.statistics_charts import classes_chart, sizes_chart

FILES = ("classes.png", "classes.svg", "sizes.png", "sizes.svg", "statistics.csv")
COLUMNS = (
    "id",
    "name",
    "images",
    "share",
    "validation_images",
    "median_width",
    "median_height",
    "smallest_aspect_ratio",
    "largest_aspect_ratio",
)
ORIENTATION_TAG = 0x0112  # EXIF's
QUARTER_TURNS = (5, 6, 7, 8)  # orientations that swap width and height


def main(options: StatisticsOptions):
    """`--mode statistics`."""
    place = output_places.choose_target(options, source=options.source, val_data=options.val_data)
    options = options._replace(target=place.path)
    check_output_folder(options.target, FILES)
    class_names, training, validation = _read_parts(options)
    sizes, errors = read_sizes(training, options.workers)
    val_sizes = None
    if validation:
        val_sizes, val_errors = read_sizes(validation, options.workers)
        errors += val_errors
    class_rows = table(class_names, training, sizes, validation)
    _write(options.target, class_names, class_rows, sizes, val_sizes)
    place.record()
    for note in _notes(class_rows):
        console.say(note)
    console.show(_result(training, class_rows, errors, options.target), _text, options.json)


def _read_parts(options):
    """(class names, training samples, validation samples or None)."""
    training, class_names, names_from = read_labelled(options.source, labels_path=options.labels)
    if not options.val_data:
        return class_names, training, None
    return class_names, training, read_labelled(options.val_data, class_names, names_from).samples


def table(names, training, sizes, validation=None):
    """Computes the numbers of each class.

    Args:
        names: list or tuple of str, the class names.
        training: `Samples`.
        sizes: float (N, 2), width and height of the training images in pixels, upright;
            NaN for those that cannot be read.
        validation: `Samples`, or None.

    Returns:
        List of dict with the keys `COLUMNS`, one per class: share is the fraction of the
        training images; aspect ratios are width over height. Medians and aspect ratios are None
        for a class without readable images, all validation_images without `validation`.
        An image that cannot be read counts as an image, but has no size.
    """
    counts = np.bincount(training.class_ids, minlength=len(names))
    if validation:
        val_counts = np.bincount(validation.class_ids, minlength=len(names))
    class_rows = []
    for class_id, name in enumerate(names):
        class_sizes = sizes[training.class_ids == class_id]
        class_sizes = class_sizes[~np.isnan(class_sizes[:, 0])]
        medians, ratio_range = (None, None), (None, None)
        if len(class_sizes):
            aspect_ratios = class_sizes[:, 0] / class_sizes[:, 1]
            medians = map(float, np.median(class_sizes, axis=0))
            ratio_range = (float(aspect_ratios.min()), float(aspect_ratios.max()))
        values = (
            class_id,
            name,
            int(counts[class_id]),
            float(counts[class_id] / counts.sum()),
            int(val_counts[class_id]) if validation else None,
            *medians,
            *ratio_range,
        )
        class_rows.append(dict(zip(COLUMNS, values)))
    return class_rows


def imbalance(counts):
    """The largest number of images of a class over the smallest.

    Args:
        counts: sequence of int, images per class; zeros are left out.

    Returns:
        float, at least 1.
    """
    present_counts = [count for count in counts if count]
    return max(present_counts) / min(present_counts)


def read_sizes(samples, workers=1):
    """Reads the sizes of images from their headers alone: nothing is decoded.

    Args:
        samples: `Samples`, N images.
        workers: int, threads that read.

    Returns:
        (float (N, 2), width and height in pixels, rows of NaN for images that cannot be read;
        list of the `ImageError` of those).
    """

    def size_or_error(file_name):
        try:
            return read_size(os.path.join(samples.folder, file_name))
        except ImageError as error:
            return error

    image_count = len(samples.file_names)
    sizes, errors = np.full((image_count, 2), np.nan), []
    remote_places.announce(os.path.join(samples.folder, name) for name in samples.file_names)
    with ThreadPoolExecutor(workers) as pool:
        outcomes = pool.map(size_or_error, samples.file_names)
        bar = tqdm(
            outcomes, "reading sizes", image_count, unit=" images", leave=False, disable=None
        )
        for index, outcome in enumerate(bar):
            if isinstance(outcome, ImageError):
                errors.append(outcome)
            else:
                sizes[index] = outcome
    return sizes, errors


def read_size(path):
    """Reads the size of an image from its header.

    An EXIF orientation that turns the picture by a quarter swaps the sides, as
    `decoding.load` does; in a PNG only where it precedes the pixels. What follows the
    header is not read: a file that is cut off still has a size.

    Args:
        path: str or path of the file.

    Returns:
        (width, height) in pixels, upright.

    Raises:
        ImageError: the file cannot be read, or is larger than `decoding.load` takes.
    """
    try:
        if not is_packed(os.fspath(path)) and not os.path.getsize(path):
            raise ImageError(path, "the file is empty", "empty")
        with open_photo(path) as image_file, open_image(image_file) as image:
            width, height = image.size
            swaps_sides = _swaps_sides(image)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        with open_photo(path) as image_file:
            raise ImageError(path, *explain(error, image_file.read(HEAD_BYTES))) from None
    except OSError as error:
        raise ImageError(path, _reason(error), "unreadable") from None
    except Exception as error:  # the libraries' decoders raise exceptions of many types
        raise ImageError(path, _reason(error)) from None
    if not 0 < width * height <= MAX_PIXELS:
        raise ImageError(
            path,
            f"has {width} x {height} pixels; allowed are 1 to {MAX_PIXELS:,} in total",
            "too_large",
        )
    return (height, width) if swaps_sides else (width, height)


def _swaps_sides(image):
    """Whether the EXIF orientation of an opened image turns it by a quarter."""
    if image.format == "TIFF":  # whose size Pillow has swapped already
        return False
    forget_xmp(image)
    try:
        # That of a PNG would decode the whole picture to look behind its pixels.
        read_exif = Image.Image.getexif if image.format == "PNG" else type(image).getexif
        return read_exif(image).get(ORIENTATION_TAG) in QUARTER_TURNS
    except Exception:  # a damaged EXIF block is no reason to refuse the picture
        return False


def _reason(error):
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())
    return f"cannot be read: {reason or type(error).__name__}"


def _write(target, class_names, class_rows, sizes, val_sizes):
    """Writes the table and the charts."""
    families, words = fonts.for_names(class_names)
    with output_folder(target, FILES) as folder:
        write_table(
            os.path.join(folder, "statistics.csv"),
            COLUMNS,
            (row.values() for row in class_rows),
            errors="backslashreplace",
        )
        with drawing(families):
            save(classes_chart(class_rows, words), folder, "classes")
            save(sizes_chart(sizes, val_sizes), folder, "sizes")


def _result(training, class_rows, errors, target):
    return {
        "images": len(training.file_names),
        "classes": class_rows,
        "imbalance": imbalance([row["images"] for row in class_rows]),
        "undecodable": [str(error) for error in errors],
        "target": target,
    }


def _notes(class_rows):
    """Lines about classes without training images."""
    empty_rows = [row for row in class_rows if not row["images"]]
    validation_only = [row["name"] for row in empty_rows if row["validation_images"]]
    without_images = [row["name"] for row in empty_rows if not row["validation_images"]]
    if validation_only:
        yield f"note: has validation images but no training images: {first_ten(validation_only)}"
    if without_images:
        yield f"note: has no images: {first_ten(without_images)}"


def _text(result):
    """The result as text; names are last, because a Chinese letter takes two columns."""
    class_rows = result["classes"]
    has_validation = class_rows[0]["validation_images"] is not None
    validation = f"{'validation':>12}" if has_validation else ""
    lines = [f"{'images':>8}  {'share':>6}{validation}  {'median size':>13}  class"]
    for row in class_rows:
        size = "-"
        if row["median_width"] is not None:
            size = f"{row['median_width']:g} x {row['median_height']:g}"
        validation = f"{row['validation_images']:>12,}" if has_validation else ""
        lines.append(
            f"{row['images']:>8,}  {row['share']:>6.1%}{validation}  {size:>13}  {row['name']}"
        )
    lines.append(
        f"{result['images']:>8,}  images; the largest class has {result['imbalance']:.3g} times as "
        "many images as the smallest that has any"
    )
    lines += [f"cannot be read: {line}" for line in result["undecodable"]]
    lines.append(f"charts and table: {result['target']}")
    return "\n".join(lines)
