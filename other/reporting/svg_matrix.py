"""A confusion matrix as SVG inside a page: right answers and wrong ones in different colours."""

import html

import numpy as np

from other.reporting import fonts
from other.reporting.svg_plot import label, open_svg

ANNOTATED = 25  # with more classes, cells hold no numbers
CELL, SMALL_CELL = 46, 14  # pixels of a cell's side, with numbers and without
FONT_WIDTH, SMALL_FONT_WIDTH = 7.2, 6.2  # pixels of a letter, twice that of a Chinese one
LONGEST = 24  # columns of a terminal that a class name may take


def matrix_svg(matrix, image_counts, class_names, class_order, texts):
    """Draws the images by true class (rows) and predicted class (columns).

    The colour's strength is the square root of the fraction of the true class's images, or the
    few wrong answers would be invisible beside the many right ones.

    Args:
        matrix: int (C, C), images by true and predicted class.
        image_counts: int (C,), images of each class, including those without an answer.
        class_names: sequence of C str.
        class_order: sequence of C int, class ids from top to bottom and from left to right.
        texts: function of `text_tables.texts_of`.

    Returns:
        `markupsafe.Markup`; (C, C) cells, those that are not zero with a title for the mouse.
    """
    from markupsafe import Markup

    is_small = len(class_names) > ANNOTATED
    cell, letter = (SMALL_CELL, SMALL_FONT_WIDTH) if is_small else (CELL, FONT_WIDTH)
    names = [fonts.shorten(" ".join(class_names[n].split()), LONGEST) for n in class_order]
    name_width = max(map(fonts.columns, names)) * letter + 10
    turned = is_small or name_width > cell
    # Names at 45 degrees take less height, and reach beyond the last column.
    name_height = name_width * (1 if is_small else 0.75) if turned else 22
    left, top = name_width + 20, name_height + 20
    side = cell * len(names)
    width = left + side + (8 if is_small or not turned else name_width * 0.75)
    parts = [open_svg(round(width), round(top + side + 2), texts("report.confusion_title"))]
    parts.append(label(left + side / 2, 14, texts("report.predicted"), "middle"))
    parts.append(label(12, top + side / 2, texts("report.true"), "middle", turn=-90))
    parts.append('<g class="names">')
    for index, name in enumerate(names):
        middle = index * cell + cell / 2
        parts.append(label(left - 8, top + middle + 4, name, "end"))
        turn = 0 if not turned else -90 if is_small else -45
        x, anchor = left + middle + (4 if turn == -90 else 0), "start" if turned else "middle"
        parts.append(label(x, top - 8, name, anchor, turn))
    parts.append("</g>")
    parts.append(_grid(left, top, len(names), cell))
    fractions = matrix / np.maximum(image_counts, 1)[:, None]
    for row, true_id in enumerate(class_order):
        for column, predicted_id in enumerate(class_order):
            if matrix[true_id, predicted_id]:
                title = texts(
                    "report.cell",
                    true=class_names[true_id],
                    predicted=class_names[predicted_id],
                    count=f"{matrix[true_id, predicted_id]:,}",
                    share=f"{fractions[true_id, predicted_id]:.1%}",
                )
                corner = left + column * cell, top + row * cell
                share = fractions[true_id, predicted_id]
                parts.append(_cell(corner, cell, share, title, row == column))
    return Markup("".join([*parts, "</svg>"]))


def _grid(left, top, count, cell):
    """Lines between the cells, to follow a row with the eye."""
    far_right, far_bottom = left + count * cell, top + count * cell
    steps = range(count + 1)
    rows = "".join(f"M{left:.1f} {top + step * cell:.1f}H{far_right:.1f}" for step in steps)
    columns = "".join(f"M{left + step * cell:.1f} {top:.1f}V{far_bottom:.1f}" for step in steps)
    return f'<path class="grid" d="{rows}{columns}"/>'


def _cell(corner, cell, fraction, title, is_right):
    x, y = corner
    is_small = cell == SMALL_CELL
    # Below a number the colour stays light enough to read it, on the light side and on the dark.
    faintest, strongest = (0.3, 1.0) if is_small else (0.1, 0.45)
    opacity = faintest + (strongest - faintest) * fraction**0.5
    color = "accent" if is_right else "wrong"
    number = ""
    if not is_small:
        number_text = f"{fraction:.0%}" if fraction >= 0.005 else "<1%"
        number = label(x + cell / 2, y + cell / 2 + 4, number_text, "middle")
    return (
        f'<g><title>{html.escape(title)}</title><rect class="mark {color}" x="{x + 0.5:.1f}" '
        f'y="{y + 0.5:.1f}" width="{cell - 1}" height="{cell - 1}" fill-opacity="{opacity:.2f}"/>'
        f"{number}</g>"
    )
