"""The charts of `--mode statistics`: images per class, sizes and shapes."""

import numpy as np

from pages.rendering import light_colors

# Blue and orange, which colour-blind people tell apart
TRAINING, VALIDATION = light_colors()["third"], light_colors()["second"]
BAR_HEIGHT = 0.8  # of a class, of the height of its row
ROW_HEIGHT, TALLEST = 0.24, 200  # inches: a class in the chart, the maximum of the whole chart
FRAME_HEIGHT = 1.3  # inches for title and axis
BIN_COUNT = 40
ASPECT_RATIO_TICKS = (0.05, 0.1, 0.2, 0.5, 0.75, 1, 1.33, 2, 5, 10, 20)


def classes_chart(rows, words):
    """Draws one bar per class, the largest class at the top, with the number of its images.

    Args:
        rows: list of dict with the keys id, images and validation_images (None for no
            validation data).
        words: list of str, the text to draw for each class, by its id.

    Returns:
        `matplotlib.figure.Figure`.
    """
    from matplotlib.figure import Figure

    bar_sets = [("images", TRAINING, "training")]
    if rows[0]["validation_images"] is not None:
        bar_sets.append(("validation_images", VALIDATION, "validation"))
    sorted_rows = sorted(rows, key=lambda row: (-row["images"], row["id"]))
    wanted_height = ROW_HEIGHT * (1.6 if len(bar_sets) == 2 else 1) * max(len(rows), 3)
    figure_height = min(TALLEST, FRAME_HEIGHT + wanted_height)
    row_height = (figure_height - FRAME_HEIGHT) / len(rows)
    figure = Figure((9, figure_height), layout="constrained")
    axes = figure.subplots()
    _draw_bars(axes, sorted_rows, bar_sets, row_height)
    # Where even the tallest chart has no room for each name, every second, third... is shown.
    step = int(np.ceil(0.15 / row_height))
    sorted_words = [words[row["id"]] for row in sorted_rows]
    # parse_math: a name may hold dollar signs, which would be read as a formula.
    axes.set_yticks(
        np.arange(len(rows))[::step], sorted_words[::step], fontsize=9, parse_math=False
    )
    axes.tick_params("y", length=0)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    largest_count = max(row[key] for row in rows for key, _, _ in bar_sets)
    axes.set_xlim(0, largest_count * 1.1)
    axes.xaxis.get_major_locator().set_params(integer=True)
    image_count = sum(row["images"] for row in rows)
    axes.set_title(f"{image_count:,} images of {len(rows)} classes", loc="left", fontsize=11)
    axes.set_xlabel("images")
    if len(bar_sets) == 2:
        _draw_legend(figure, axes)
    return figure


def _draw_bars(axes, sorted_rows, bar_sets, row_height):
    """The bars of each set side by side, each with its number."""
    thickness = BAR_HEIGHT / len(bar_sets)
    centers = np.arange(len(sorted_rows))
    for index, (key, color, label) in enumerate(bar_sets):
        counts = [row[key] for row in sorted_rows]
        offset = (index - (len(bar_sets) - 1) / 2) * thickness
        bars = axes.barh(centers + offset, counts, thickness, color=color, label=label)
        font_size = min(8, thickness * row_height * 72)
        axes.bar_label(bars, [f"{count:,}" for count in counts], padding=3, fontsize=font_size)


def sizes_chart(sizes, val_sizes=None):
    """Draws histograms of widths, heights and aspect ratios.

    Args:
        sizes: float (N, 2), width and height in pixels, NaN for images that cannot be read.
        val_sizes: float (M, 2), those of the validation images, or None.

    Returns:
        `matplotlib.figure.Figure`.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    parts = [(sizes, {"label": "training", "color": TRAINING})]
    if val_sizes is not None:
        outline = {"color": VALIDATION, "histtype": "step", "linewidth": 2}
        parts.append((val_sizes, {"label": "validation", **outline}))
    parts = [(part_sizes[~np.isnan(part_sizes[:, 0])], style) for part_sizes, style in parts]
    parts = [(part_sizes, style) for part_sizes, style in parts if len(part_sizes)]
    figure = Figure((12, 3.6), layout="constrained")
    titles = ("width (pixels)", "height (pixels)", "aspect ratio, width : height")
    for column, (axes, title) in enumerate(zip(figure.subplots(1, 3), titles)):
        axes.set_xlabel(title)
        if not parts:
            axes.text(0.5, 0.5, "no image can be read", ha="center", transform=axes.transAxes)
            continue
        values = [
            part_sizes[:, column] if column < 2 else part_sizes[:, 0] / part_sizes[:, 1]
            for part_sizes, _ in parts
        ]
        low, high = np.min(np.concatenate(values)), np.max(np.concatenate(values))
        bins = _pixel_bins(low, high) if column < 2 else _ratio_bins(axes, low, high)
        for part_values, (_, style) in zip(values, parts):
            # Fractions, so that parts of different size can be compared.
            fractions = np.full(len(part_values), 1 / len(part_values))
            axes.hist(part_values, bins, weights=fractions, **style)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    figure.axes[0].set_ylabel("fraction of the images")
    if len(parts) == 2:
        _draw_legend(figure, figure.axes[0])
    return figure


def _pixel_bins(low, high):
    """Edges of bins for whole numbers of pixels."""
    # At least a pixel per bin; a whole number, or some bins would hold more sizes than others.
    bin_width = max(1, int(np.ceil((high - low + 1) / BIN_COUNT)))
    bins = np.arange(low - 0.5, high + bin_width + 0.5, bin_width)
    return bins if len(bins) >= 11 else np.arange(low - 5.5, high + 6.5)


def _ratio_bins(axes, low, high):
    """Edges of bins for aspect ratios; makes their axis logarithmic."""
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    bins = np.geomspace(min(low, 0.5) / 1.02, max(high, 2) * 1.02, BIN_COUNT + 2)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    ticks = [tick for tick in ASPECT_RATIO_TICKS if bins[0] <= tick <= bins[-1]]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    return bins


def _draw_legend(figure, axes):
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside upper right",
        ncols=2,
        frameon=False,
        fontsize=9,
    )
