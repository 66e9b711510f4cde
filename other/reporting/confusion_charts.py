"""The charts of a confusion matrix and of its worst pairs."""

import numpy as np

from other.reporting import fonts
from other.reporting.charts import DPI
from pages.rendering import light_colors

ANNOTATED = 25  # with more classes, cells hold no numbers, and confused classes are neighbours
THUMBNAIL, GAP = 96, 10  # pixels
GREY = 190  # a sample that cannot be shown


def matrix_chart(values, rows, columns, name, note=""):
    """A confusion matrix as colours, with numbers where there are few classes.

    Args:
        values: int (R, C), counts, or float (R, C), fractions.
        rows, columns: lists of str, the texts of true and predicted classes.
        name: str, the colour bar's title: what the values are.
        note: str, a line on the order of the classes.

    Returns:
        `matplotlib.figure.Figure`.
    """
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm
    from matplotlib.figure import Figure

    count = len(rows)
    # Inches a cell: wide enough for its number, later for its name, at last for a line.
    cell_size = min(0.9, max(0.5, 4 / count)) if count <= ANNOTATED else max(0.15, 5 / count)
    cell_size = min(cell_size, 40 / count)
    font_size = 9 if count <= ANNOTATED else 7
    name_width = max(fonts.columns(word) for word in [*rows, *columns]) * font_size * 0.6 / 72
    is_count = np.issubdtype(values.dtype, np.integer)
    figure = Figure(
        (cell_size * len(columns) + name_width + 1.9, cell_size * count + name_width + 1.4),
        layout="constrained",
    )
    axes = figure.subplots()
    largest_value = max(values.max(), 1) if is_count else 1
    # One hue from light to dark needs no colour vision. The square root of the value, or
    # the few wrong ones would look like none beside the many on the diagonal.
    hues = [light_colors()[name] for name in ("surface", "bar", "accent")]
    color_map = LinearSegmentedColormap.from_list("accent", hues)
    picture = axes.imshow(values, color_map, norm=PowerNorm(0.5, 0, largest_value))
    axes.spines[:].set_visible(False)
    # Where a cell is too small for a name, every second, third... is shown.
    tick_step = int(np.ceil(0.13 / cell_size))
    for ticks, words, rotation in (
        (axes.set_yticks, rows, {}),
        (axes.set_xticks, columns, _turned(columns, count)),
    ):
        # parse_math: a name may hold dollar signs, which would be read as a formula.
        ticks(
            range(0, len(words), tick_step),
            words[::tick_step],
            fontsize=font_size,
            parse_math=False,
            **rotation,
        )
    axes.tick_params(length=0)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if note:
        axes.set_title(note, fontsize=9, loc="left")
    # Lines between the cells, to follow a row with the eye.
    axes.set_xticks(np.arange(len(columns) - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(count - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="0.85", linewidth=0.8 if count <= ANNOTATED else 0.3)
    axes.tick_params(which="minor", length=0)
    if count <= ANNOTATED:
        _write_values(axes, values, picture.norm)
    color_bar = figure.colorbar(picture, label=name, shrink=0.6, aspect=25, pad=0.02)
    if is_count:
        color_bar.ax.yaxis.get_major_locator().set_params(integer=True)
    return figure


def _write_values(axes, values, norm):
    """Writes the value of each cell, white on dark colours."""
    is_count = np.issubdtype(values.dtype, np.integer)
    for (row, column), value in np.ndenumerate(values):
        if not value:  # zeros in most cells would hide the others
            continue
        fraction_text = f"{value:.2f}" if value >= 0.005 else "<0.01"
        value_text = str(value) if is_count else fraction_text
        axes.text(
            column,
            row,
            value_text,
            ha="center",
            va="center",
            fontsize=9 if len(value_text) < 5 else 7,
            color="white" if norm(value) > 0.75 else "black",
        )


def _turned(words, count):
    """How names below the columns are rotated: not at all where they are short and few."""
    if count <= ANNOTATED and max(fonts.columns(word) for word in words) <= 3:
        return {}
    if count <= ANNOTATED:
        return {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    return {"rotation": 90}


def pairs_chart(pairs, thumbnails, words):
    """The most confused pairs, one per row: sample images and the class predicted for them.

    Args:
        pairs: list of (true class id, predicted class id, images, fraction of the true class).
        thumbnails: list of lists of uint8 (THUMBNAIL, THUMBNAIL, 3), RGB, one list per pair.
        words: list of str, the text to draw for each class.

    Returns:
        `matplotlib.figure.Figure`.
    """
    from matplotlib.figure import Figure

    if not pairs:
        figure = Figure((5, 1))
        figure.text(0.5, 0.5, "no image is taken for another class", ha="center", va="center")
        return figure
    tile_step = THUMBNAIL + GAP
    most_thumbnails = max(map(len, thumbnails))
    shape = len(pairs) * tile_step + GAP, most_thumbnails * tile_step + GAP
    canvas = np.full((*shape, 3), 255, np.uint8)
    for row, images in enumerate(thumbnails):
        for column, image in enumerate(images):
            top, left = row * tile_step + GAP, column * tile_step + GAP
            # The edge of a picture that ends in white would be lost on white paper.
            canvas[top - 1 : top + THUMBNAIL + 1, left - 1 : left + THUMBNAIL + 1] = GREY
            canvas[top : top + THUMBNAIL, left : left + THUMBNAIL] = image
    font_size = 9  # points
    pair_lines = [
        (
            f"true: {words[true]}",
            f"taken for: {words[predicted]}",
            f"{count:,} image{'s' if count > 1 else ''}, {fraction:.1%} of the class",
        )
        for true, predicted, count, fraction in pairs
    ]
    widest_line = max(fonts.columns(line) for lines in pair_lines for line in lines)
    width = shape[1] + widest_line * font_size * 0.75 * DPI / 72 + 2 * GAP
    figure = Figure((width / DPI, shape[0] / DPI), dpi=DPI)
    axes = figure.add_axes((0, 0, shape[1] / width, 1))
    axes.imshow(canvas, aspect="auto", interpolation="nearest")
    axes.set_axis_off()
    for row, lines in enumerate(pair_lines):
        axes.text(
            shape[1],
            row * tile_step + GAP + THUMBNAIL / 2,
            "\n".join(lines),
            va="center",
            fontsize=font_size,
            linespacing=1.5,
            parse_math=False,
        )
    return figure
