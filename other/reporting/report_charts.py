"""The charts of the report, each the `src` of an HTML image."""

import base64
import io

import numpy as np

from evaluation.confusion import confusion_order
from other.reporting.confusion_charts import ANNOTATED, matrix_chart

BLUE, ORANGE, GREY = "#1f6feb", "#d4781c", "#8a939c"


def learning_curves(rows, kept):
    """Loss, accuracy and learning rate over the epochs.

    Args:
        rows: list of dict, column of results.csv -> float, one per epoch.
        kept: int, position of the epoch whose weights were kept.

    Returns:
        str, a data URL of an SVG.
    """
    from matplotlib.figure import Figure

    figure = Figure((10, 3), layout="constrained")
    epochs = [row["epoch"] for row in rows]
    marker = "o" if len(rows) < 2 else None  # a line needs two points
    for axes, name in zip(figure.subplots(1, 3), ("loss", "accuracy", "learning_rate")):
        for column, words, color in (
            (name, "training", BLUE),
            (f"val_{name}", "validation", ORANGE),
        ):
            if column in rows[0]:
                axes.plot(
                    epochs,
                    [row[column] for row in rows],
                    color=color,
                    marker=marker,
                    markersize=4,
                    label=words,
                )
        axes.axvline(epochs[kept], color=GREY, linestyle=":", label="epoch kept")
        axes.set_title(name.replace("_", " "), fontsize=10)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if name != "learning_rate":
            axes.legend(fontsize=8)
    return _source(figure)


def confusion(matrix, images, words):
    """The confusion matrix as fractions of each class's images: the diagonal is the recall.

    Args:
        matrix: int (C, C), images by true and predicted class.
        images: int (C,), images of each class, including those without an answer.
        words: list of str, the text to draw for each class.

    Returns:
        str, a data URL of an SVG.
    """
    class_fractions = matrix / np.maximum(images, 1)[:, None]
    class_order, note = list(range(len(words))), ""
    if len(words) > ANNOTATED:
        class_order = confusion_order(class_fractions)
        note = "classes that are often confused are next to each other"
    ordered_words = [words[class_id] for class_id in class_order]
    return _source(
        matrix_chart(
            class_fractions[np.ix_(class_order, class_order)],
            ordered_words,
            ordered_words,
            "fraction of the true class's images",
            note,
        )
    )


def reliability_diagram(bins):
    """Accuracy over confidence, and how many images have which confidence.

    Args:
        bins: `calibration_error.Reliability`.

    Returns:
        str, a data URL of an SVG.
    """
    from matplotlib.figure import Figure

    figure = Figure((5, 5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    is_filled = bins.count > 0
    left_edges, bin_widths = bins.edges[:-1][is_filled], np.diff(bins.edges)[is_filled]
    upper.bar(
        left_edges,
        bins.accuracy[is_filled],
        bin_widths,
        align="edge",
        color=BLUE,
        edgecolor="white",
        label="fraction of right answers",
    )
    upper.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="calibrated")
    upper.plot(
        bins.confidence[is_filled],
        bins.accuracy[is_filled],
        "o",
        color=ORANGE,
        markersize=4,
        label="mean probability of the bin",
    )
    upper.set_ylabel("fraction of right answers")
    upper.set_ylim(0, 1.02)
    upper.legend(fontsize=8, loc="upper left")
    lower.bar(
        left_edges, bins.count[is_filled], bin_widths, align="edge", color=GREY, edgecolor="white"
    )
    lower.set_ylabel("images")
    lower.yaxis.get_major_locator().set_params(integer=True)
    lower.set_xlabel("probability that the model gives its answer")
    lower.set_xlim(0, 1)
    return _source(figure)


def robustness(table, accuracy):
    """Accuracy over the strength of each kind of corruption.

    Args:
        table: dict of kind -> list of five floats, from weak to strong.
        accuracy: float, on the photos as they are.

    Returns:
        str, a data URL of an SVG.
    """
    from matplotlib.figure import Figure

    figure = Figure((7, 3.4), layout="constrained")
    axes = figure.subplots()
    for kind, accuracies in table.items():
        axes.plot(range(len(accuracies) + 1), [accuracy, *accuracies], marker="o", label=kind)
    axes.set_xlabel("strength (0: as they are)")
    axes.set_ylabel("accuracy")
    axes.set_ylim(0, 1.02)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8, loc="lower left")
    return _source(figure)


def _source(figure):
    """A figure as the `src` of an HTML image: an SVG, its letters drawn as shapes."""
    svg_buffer = io.BytesIO()
    figure.savefig(
        svg_buffer, format="svg", metadata={"Date": None}, bbox_inches="tight", pad_inches=0.1
    )
    return f"data:image/svg+xml;base64,{base64.b64encode(svg_buffer.getvalue()).decode()}"
