"""The charts of a confusion matrix and of its worst pairs."""

import numpy as np

from other.reporting import fonts
from other.reporting.charts import DPI

ANNOTATED = 25  # with more classes, cells hold no numbers, and confused classes stand together
THUMBNAIL, GAP = 96, 10  # pixels
GREY = 190  # a sample that cannot be shown


def matrix_chart(values, rows, columns, name, note=""):
    """A confusion matrix as colours, with numbers where there are few classes.

    Args:
        values: (R, C), counts or shares.
        rows, columns: the texts of true and predicted classes.
        name: what the values are.
        note: a line on the order of the classes.

    Returns:
        `matplotlib.figure.Figure`.
    """
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    count = len(rows)
    # Inches a cell: wide enough for its number, later for its name, at last for a line.
    cell = min(0.9, max(0.5, 4 / count)) if count <= ANNOTATED else max(0.15, 5 / count)
    cell = min(cell, 40 / count)
    letters = 9 if count <= ANNOTATED else 7
    names = max(fonts.columns(word) for word in [*rows, *columns]) * letters * 0.6 / 72
    whole = np.issubdtype(values.dtype, np.integer)
    figure = Figure(
        (cell * len(columns) + names + 1.9, cell * count + names + 1.4), layout="constrained"
    )
    axes = figure.subplots()
    most = max(values.max(), 1) if whole else 1
    # One hue from light to dark needs no colour vision. The square root of the value, or
    # the few wrong ones would look like none beside the many on the diagonal.
    picture = axes.imshow(values, "Blues", norm=PowerNorm(0.5, 0, most))
    axes.spines[:].set_visible(False)
    # Where a cell is too small for a name, every second, third... is shown.
    step = int(np.ceil(0.13 / cell))
    for ticks, words, turn in (
        (axes.set_yticks, rows, {}),
        (axes.set_xticks, columns, _turned(columns, count)),
    ):
        # parse_math: a name may hold dollar signs, which would be read as a formula.
        ticks(range(0, len(words), step), words[::step], fontsize=letters, parse_math=False, **turn)
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
        for (row, column), value in np.ndenumerate(values):
            if value:  # a nought in most cells would hide the others
                text = str(value) if whole else f"{value:.2f}" if value >= 0.005 else "<0.01"
                axes.text(
                    column,
                    row,
                    text,
                    ha="center",
                    va="center",
                    fontsize=9 if len(text) < 5 else 7,
                    color="white" if picture.norm(value) > 0.6 else "black",
                )
    bar = figure.colorbar(picture, label=name, shrink=0.6, aspect=25, pad=0.02)
    if whole:
        bar.ax.yaxis.get_major_locator().set_params(integer=True)
    return figure


def _turned(words, count):
    """How names below the columns stand: level where they are short and few."""
    if count <= ANNOTATED and max(fonts.columns(word) for word in words) <= 3:
        return {}
    if count <= ANNOTATED:
        return {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    return {"rotation": 90}


def pairs_chart(pairs, thumbnails, words):
    """The most confused pairs, a row each: sample images and what they are taken for.

    Args:
        pairs: as `confusion.confused_pairs` gives them.
        thumbnails: for each pair a list of uint8 arrays (THUMBNAIL, THUMBNAIL, 3).
        words: the text to draw for each class.

    Returns:
        `matplotlib.figure.Figure`.
    """
    from matplotlib.figure import Figure

    if not pairs:
        figure = Figure((5, 1))
        figure.text(0.5, 0.5, "no image is taken for another class", ha="center", va="center")
        return figure
    step = THUMBNAIL + GAP
    across = max(map(len, thumbnails))
    shape = len(pairs) * step + GAP, across * step + GAP
    canvas = np.full((*shape, 3), 255, np.uint8)
    for row, images in enumerate(thumbnails):
        for column, image in enumerate(images):
            top, left = row * step + GAP, column * step + GAP
            # The edge of a picture that ends in white would be lost on white paper.
            canvas[top - 1 : top + THUMBNAIL + 1, left - 1 : left + THUMBNAIL + 1] = GREY
            canvas[top : top + THUMBNAIL, left : left + THUMBNAIL] = image
    letters = 9  # points
    lines = [
        (
            f"true: {words[true]}",
            f"taken for: {words[predicted]}",
            f"{count:,} image{'s' if count > 1 else ''}, {share:.1%} of the class",
        )
        for true, predicted, count, share in pairs
    ]
    widest = max(fonts.columns(line) for each in lines for line in each)
    width = shape[1] + widest * letters * 0.75 * DPI / 72 + 2 * GAP
    figure = Figure((width / DPI, shape[0] / DPI), dpi=DPI)
    axes = figure.add_axes((0, 0, shape[1] / width, 1))
    axes.imshow(canvas, aspect="auto", interpolation="nearest")
    axes.set_axis_off()
    for row, each in enumerate(lines):
        axes.text(
            shape[1],
            row * step + GAP + THUMBNAIL / 2,
            "\n".join(each),
            va="center",
            fontsize=letters,
            linespacing=1.5,
            parse_math=False,
        )
    return figure
