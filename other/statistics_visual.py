"""Charts and a table of a data set: images a class, their sizes and shapes."""

import csv
import json
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from common.console import say
from common.errors import ImageError, first_ten
from data.decoding_limits import MAX_PIXELS
from data.pillow_formats import FORMATS
from data.samples import check_labels, find_labels, read_label_names, read_samples
from other.reporting import fonts
from other.reporting.charts import check_output_folder, drawing, output_folder, save

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
ORIENTATION = 0x0112  # EXIF's tag
# Blue and orange of Okabe and Ito, which colour-blind people tell apart.
TRAINING, VALIDATION = "#0072B2", "#E69F00"
ROW, TALLEST = 0.24, 200  # inches: a class in the chart, the whole chart at most


def main(options):
    """`--mode statistics`."""
    check_output_folder(options.target, FILES)
    labels_path = options.labels or find_labels(options.source)
    names = read_label_names(labels_path)
    training = read_samples(options.source, names, labels_path)
    validation = None
    if options.val_data:
        check_labels(options.val_data, names, labels_path)
        validation = read_samples(options.val_data, names, labels_path)
    sizes, errors = read_sizes(training, options.workers)
    val_sizes = None
    if validation:
        val_sizes, val_errors = read_sizes(validation, options.workers)
        errors += val_errors
    rows = table(names, training, sizes, validation)
    families, words = fonts.for_names(names)
    with output_folder(options.target, FILES) as folder:
        _write_csv(os.path.join(folder, "statistics.csv"), rows)
        with drawing(families):
            save(classes_chart(rows, words), folder, "classes")
            save(sizes_chart(sizes, val_sizes), folder, "sizes")
    counts = [row["images"] for row in rows]
    result = {
        "images": len(training.file_names),
        "classes": rows,
        "imbalance": imbalance(counts),
        "undecodable": [str(error) for error in errors],
        "target": options.target,
    }
    for line in _notes(rows):
        say(line)
    print(json.dumps(result, ensure_ascii=False) if options.json else _text(result))


def table(names, training, sizes, validation=None):
    """What the table says about each class.

    Args:
        names: class names.
        training: `Samples`.
        sizes: float (N, 2), width and height of the training images in pixels, upright;
            NaN for those that cannot be read.
        validation: `Samples`, or None.

    Returns:
        A dict for each class, with the keys `COLUMNS`: share is that of the training
        images; aspect ratios are width over height; what a class without readable
        images does not have is None, as are all validation_images without `validation`.
        An image that cannot be read counts as an image, but has no size.
    """
    counts = np.bincount(training.class_ids, minlength=len(names))
    if validation:
        val_counts = np.bincount(validation.class_ids, minlength=len(names))
    rows = []
    for number, name in enumerate(names):
        own = sizes[training.class_ids == number]
        own = own[~np.isnan(own[:, 0])]
        ratios = own[:, 0] / own[:, 1]
        rows.append(
            dict(
                zip(
                    COLUMNS,
                    (
                        number,
                        name,
                        int(counts[number]),
                        float(counts[number] / counts.sum()),
                        int(val_counts[number]) if validation else None,
                        *(
                            (float(median) for median in np.median(own, axis=0))
                            if len(own)
                            else (None, None)
                        ),
                        *((float(ratios.min()), float(ratios.max())) if len(own) else (None, None)),
                    ),
                )
            )
        )
    return rows


def imbalance(counts):
    """The largest count over the smallest, of those above 0."""
    present = [count for count in counts if count]
    return max(present) / min(present)


def read_sizes(samples, workers=1):
    """The sizes of images, from their headers alone: nothing is decoded.

    Args:
        samples: `Samples`.
        workers: threads that read.

    Returns:
        float (N, 2), width and height in pixels, rows of NaN for images that cannot be
        read, and the list of `ImageError` of those.
    """

    def size(name):
        try:
            return read_size(os.path.join(samples.folder, name))
        except ImageError as error:
            return error

    sizes, errors = np.full((len(samples.file_names), 2), np.nan), []
    with ThreadPoolExecutor(workers) as pool:
        bar = tqdm(
            pool.map(size, samples.file_names),
            "reading sizes",
            len(samples.file_names),
            unit=" images",
            leave=False,
            disable=None,
        )
        for position, answer in enumerate(bar):
            if isinstance(answer, ImageError):
                errors.append(answer)
            else:
                sizes[position] = answer
    return sizes, errors


def read_size(path):
    """(width, height) of an image in pixels, upright, from its header.

    An EXIF orientation that turns the picture by a quarter swaps them, as
    `decoding.load` does; in a PNG only where it stands before the pixels. What lies
    behind the header is not looked at: a file that is cut off still has a size.

    Raises:
        ImageError: it cannot be read, or is larger than `decoding.load` takes.
    """
    try:
        if not os.path.getsize(path):
            raise ImageError(path, "the file is empty")
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            try:
                # That of a PNG would decode the whole picture to look behind its pixels.
                read = Image.Image.getexif if image.format == "PNG" else type(image).getexif
                turned = read(image).get(ORIENTATION) in (5, 6, 7, 8)
                turned = turned and image.format != "TIFF"  # whose size Pillow has swapped already
            except Exception:  # a damaged EXIF block is no reason to refuse the picture
                turned = False
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(path, "is none of " + ", ".join(FORMATS)) from None
    except Exception as error:  # decoders raise whatever comes to their mind
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ImageError(path, f"cannot be read: {reason or type(error).__name__}") from None
    if not 0 < width * height <= MAX_PIXELS:
        raise ImageError(
            path, f"has {width} x {height} pixels; allowed are 1 to {MAX_PIXELS:,} in all"
        )
    return (height, width) if turned else (width, height)


def classes_chart(rows, words):
    """A bar a class, the largest class at the top, with the number of its images.

    Args:
        rows: as `table` gives them.
        words: the text to draw for each class.

    Returns:
        `matplotlib.figure.Figure`.
    """
    from matplotlib.figure import Figure

    beside = rows[0]["validation_images"] is not None
    order = sorted(rows, key=lambda row: (-row["images"], row["id"]))
    places = np.arange(len(rows))
    rest = 1.3  # inches for title and axis
    height = min(TALLEST, rest + ROW * (1.6 if beside else 1) * max(len(rows), 3))
    row_height = (height - rest) / len(rows)
    figure = Figure((9, height), layout="constrained")
    axes = figure.subplots()
    parts = [("images", TRAINING, "training")]
    if beside:
        parts.append(("validation_images", VALIDATION, "validation"))
    thick = 0.8 / len(parts)
    for number, (key, color, label) in enumerate(parts):
        values = [row[key] for row in order]
        bars = axes.barh(
            places + (number - (len(parts) - 1) / 2) * thick,
            values,
            thick,
            color=color,
            label=label,
        )
        axes.bar_label(
            bars,
            [f"{value:,}" for value in values],
            padding=3,
            fontsize=min(8, thick * row_height * 72),
        )
    # Where even the tallest chart has no room for each name, every second, third... is shown.
    step = int(np.ceil(0.15 / row_height))
    # parse_math: a name may hold dollar signs, which would be read as a formula.
    axes.set_yticks(
        places[::step], [words[row["id"]] for row in order][::step], fontsize=9, parse_math=False
    )
    axes.tick_params("y", length=0)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    most = max(row[key] for row in rows for key, _, _ in parts)
    axes.set_xlim(0, most * 1.1)
    axes.xaxis.get_major_locator().set_params(integer=True)
    total = sum(row["images"] for row in rows)
    axes.set_title(f"{total:,} images of {len(rows)} classes", loc="left", fontsize=11)
    axes.set_xlabel("images")
    if beside:
        figure.legend(
            *axes.get_legend_handles_labels(),
            loc="outside upper right",
            ncols=2,
            frameon=False,
            fontsize=9,
        )
    return figure


def sizes_chart(sizes, val_sizes=None):
    """Histograms of widths, heights and aspect ratios.

    Args:
        sizes: float (N, 2), width and height in pixels, NaN for images without.
        val_sizes: those of the validation images, or None.

    Returns:
        `matplotlib.figure.Figure`.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter, PercentFormatter, ScalarFormatter

    parts = [(sizes, "training", {"color": TRAINING})]
    if val_sizes is not None:
        parts.append(
            (val_sizes, "validation", {"color": VALIDATION, "histtype": "step", "linewidth": 2})
        )
    parts = [(part[~np.isnan(part[:, 0])], *rest) for part, *rest in parts]
    parts = [part for part in parts if len(part[0])]
    figure = Figure((12, 3.6), layout="constrained")
    titles = ("width (pixels)", "height (pixels)", "aspect ratio, width : height")
    for place, (axes, title) in enumerate(zip(figure.subplots(1, 3), titles)):
        axes.set_xlabel(title)
        if not parts:
            axes.text(0.5, 0.5, "no image can be read", ha="center", transform=axes.transAxes)
            continue
        values = [part[:, place] if place < 2 else part[:, 0] / part[:, 1] for part, _, _ in parts]
        low, high = np.min(np.concatenate(values)), np.max(np.concatenate(values))
        if place < 2:
            # At least a pixel a bin; whole ones, or some bins would hold more sizes than others.
            width = max(1, int(np.ceil((high - low + 1) / 40)))
            bins = np.arange(low - 0.5, high + width + 0.5, width)
            if len(bins) < 11:
                bins = np.arange(low - 5.5, high + 6.5)
        else:
            low, high = min(low, 0.5), max(high, 2)
            bins = np.geomspace(low / 1.02, high * 1.02, 42)
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(ScalarFormatter())
            axes.xaxis.set_minor_formatter(NullFormatter())
            marks = [
                mark
                for mark in (0.05, 0.1, 0.2, 0.5, 0.75, 1, 1.33, 2, 5, 10, 20)
                if bins[0] <= mark <= bins[-1]
            ]
            axes.set_xticks(marks, [f"{mark:g}" for mark in marks])
        for part, (_, label, style) in zip(values, parts):
            # Shares, so that parts of different size can be compared.
            axes.hist(part, bins, weights=np.full(len(part), 1 / len(part)), label=label, **style)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    figure.axes[0].set_ylabel("share of the images")
    if len(parts) == 2:
        figure.legend(
            *figure.axes[0].get_legend_handles_labels(),
            loc="outside upper right",
            ncols=2,
            frameon=False,
            fontsize=9,
        )
    return figure


def _notes(rows):
    """Lines about classes without training images."""
    empty = [row for row in rows if not row["images"]]
    only = [row["name"] for row in empty if row["validation_images"]]
    none = [row["name"] for row in empty if not row["validation_images"]]
    if only:
        yield f"note: has validation images but none to train on: {first_ten(only)}"
    if none:
        yield f"note: has no images: {first_ten(none)}"


def _text(result):
    """The result as text; names stand last, as Chinese ones take two columns a letter."""
    rows = result["classes"]
    beside = rows[0]["validation_images"] is not None
    validation = f"{'validation':>12}" if beside else ""
    lines = [f"{'images':>8}  {'share':>6}{validation}  {'median size':>13}  class"]
    for row in rows:
        size = "-"
        if row["median_width"] is not None:
            size = f"{row['median_width']:g} x {row['median_height']:g}"
        validation = f"{row['validation_images']:>12,}" if beside else ""
        lines.append(
            f"{row['images']:>8,}  {row['share']:>6.1%}{validation}  {size:>13}  {row['name']}"
        )
    lines += [
        f"{result['images']:>8,}  images; the largest class has {result['imbalance']:.3g} times as "
        "many as the smallest that has any"
    ]
    lines += [f"cannot be read: {line}" for line in result["undecodable"]]
    lines.append(f"charts and table: {result['target']}")
    return "\n".join(lines)


def _write_csv(path, rows):
    with open(path, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
