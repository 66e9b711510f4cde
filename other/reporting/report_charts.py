"""The charts of the report: SVG inside the page, in its colours, with its texts."""

import math

from evaluation.confusion import confusion_order
from other.reporting.svg_matrix import ANNOTATED, matrix_svg
from other.reporting.svg_plot import MARK_RADIUS, Axis, Plot, open_svg

TRAINING, VALIDATION = "third", "second"  # blue and orange, which colour-blind people tell apart
INTERVAL_SIZE = 120, 20  # pixels
KIND_COLORS = ("accent", "second", "third", "fourth", "fifth")


def learning_curves(rows, kept, texts):
    """Loss, accuracy and learning rate over the epochs.

    Args:
        rows: list of dict, column of results.csv -> float, one per epoch.
        kept: int, position of the epoch whose weights were kept.
        texts: function of `text_tables.texts_of`.

    Returns:
        list of (title, SVG), one per chart.
    """
    epochs = [row["epoch"] for row in rows]
    charts = []
    for name in ("loss", "accuracy", "learning_rate"):
        drawn = [
            ([row[column] for row in rows], color)
            for column, color in ((name, TRAINING), (f"val_{name}", VALIDATION))
            if column in rows[0]
        ]
        finite = [value for values, _ in drawn for value in values if math.isfinite(value)]
        title = texts(f"report.curve.{name}")
        x_axis = Axis(epochs[0], max(epochs[-1], epochs[0] + 1), texts("report.epoch"), whole=True)
        plot = Plot(title, x_axis, _value_axis(finite, name == "accuracy"))
        low, high = plot.y_range
        plot.line([epochs[kept]] * 2, [low, high], "faint", dashed=True)
        for values, color in drawn:
            plot.line(epochs, values, color)
        charts.append((title, plot.svg()))
    return charts


def _value_axis(values, is_fraction):
    """A y axis to the highest value: from zero, or where all are far above it, from the lowest."""
    high = max(values, default=1) or 1
    if not is_fraction:
        low = min(values, default=0)
        return Axis(low * 0.95 if low > high / 2 else 0, high * 1.05)
    low = math.floor(min(values, default=0) * 10) / 10
    return Axis(low if low < 1 else 0.9, 1, number_format=".0%")


def confusion(matrix, image_counts, class_names, texts):
    """The confusion matrix.

    Args:
        matrix: int (C, C), images by true and predicted class.
        image_counts: int (C,), images of each class, including those without an answer.
        class_names: sequence of C str.
        texts: function of `text_tables.texts_of`.

    Returns:
        (SVG, whether classes that are often confused have been put next to each other).
    """
    class_order, is_sorted = range(len(class_names)), len(class_names) > ANNOTATED
    if is_sorted:
        class_order = confusion_order(matrix / image_counts.clip(1)[:, None])
    return matrix_svg(matrix, image_counts, class_names, class_order, texts), is_sorted


def reliability_diagram(bins, texts):
    """Accuracy over confidence, and how many images have which confidence.

    Args:
        bins: `calibration_error.Reliability`.
        texts: function of `text_tables.texts_of`.

    Returns:
        list of two SVG, one above the other.
    """
    is_filled = bins.count > 0
    fractions = bins.accuracy.copy()
    fractions[~is_filled] = 0
    upper = Plot(
        texts("report.reliability_title"),
        Axis(0, 1, number_format=".0%"),
        Axis(0, 1, texts("report.fraction_right"), ".0%"),
        (440, 300),
    )
    upper.bars(bins.edges, fractions, "bar")
    upper.line([0, 1], [0, 1], "faint", dashed=True)
    upper.marks(bins.confidence[is_filled], bins.accuracy[is_filled], "second")
    x_axis = Axis(0, 1, texts("report.probability_of_answer"), ".0%")
    highest = max(int(bins.count.max()), 1)
    lower = Plot(
        texts("report.counts_title"),
        x_axis,
        Axis(0, highest, texts("report.images"), ",.0f", whole=True),
        (440, 150),
    )
    lower.bars(bins.edges, bins.count, "bar")
    return [upper.svg(), lower.svg()]


def robustness(table, accuracy, texts):
    """Accuracy over the strength of each kind of corruption.

    Args:
        table: dict of kind -> list of five floats, from weak to strong.
        accuracy: float, on the photos as they are.
        texts: function of `text_tables.texts_of`.

    Returns:
        (SVG, list of (colour, kind) for the legend).
    """
    strengths = range(len(next(iter(table.values()))) + 1)
    plot = Plot(
        texts("report.robustness_title"),
        Axis(0, strengths[-1], texts("report.strength_axis"), whole=True),
        Axis(0, 1, texts("report.curve.accuracy"), ".0%"),
        (520, 300),
    )
    for kind, color in zip(table, KIND_COLORS):
        plot.line(strengths, [accuracy, *table[kind]], color)
        plot.marks(strengths, [accuracy, *table[kind]], color)
    return plot.svg(), [
        (color, texts(f"report.worse.{kind}")) for kind, color in zip(table, KIND_COLORS)
    ]


def interval(score, expected, axis_low, title):
    """A row of a table as a chart: a score as a dot on its interval, and what was expected.

    Args:
        score: (value, low, high), float from `axis_low` to 1.
        expected: float, what a stroke across the row marks; None for no stroke.
        axis_low: float, where the axis begins; it ends at 1.
        title: str, what a screen reader says instead of the picture.

    Returns:
        `markupsafe.Markup`, an SVG.
    """
    from markupsafe import Markup

    width, height = INTERVAL_SIZE
    inner_width = width - 2 * MARK_RADIUS

    def x(value):
        return round(MARK_RADIUS + (value - axis_low) / (1 - axis_low) * inner_width, 1)

    value, low, high = map(x, score)
    middle = height / 2
    parts = [
        open_svg(width, height, title),
        f'<path class="grid" d="M{x(axis_low)} {middle}H{x(1)}"/>',
    ]
    if expected is not None:
        parts.append(f'<path class="line second" d="M{x(expected)} 2V{height - 2}"/>')
    parts += [
        f'<path class="line third" d="M{low} {middle}H{high}"/>',
        f'<circle class="mark third" cx="{value}" cy="{middle}" r="{MARK_RADIUS}"/></svg>',
    ]
    return Markup("".join(parts))
