"""The charts of the report, each the `src` of an HTML image."""

import base64
import io

import numpy as np

from evaluation.confusion import confusion_order
from other.reporting.confusion_charts import ANNOTATED, matrix_chart

BLUE, ORANGE, GREY = "#1f6feb", "#d4781c", "#8a939c"


def learning_curves(rows, best):
    """Loss, accuracy and learning rate over the epochs.

    Args:
        rows: list of dict, column of results.csv -> float, an epoch each.
        best: position of the epoch whose weights were kept.
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
        axes.axvline(epochs[best], color=GREY, linestyle=":", label="best epoch")
        axes.set_title(name.replace("_", " "), fontsize=10)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if name != "learning_rate":
            axes.legend(fontsize=8)
    return _source(figure)


def confusion(matrix, images, words):
    """The confusion matrix as shares of each class's images, so that the diagonal is the recall.

    Args:
        matrix: int (C, C), images by true and predicted class.
        images: int (C,), images of each class, with those that got no answer.
        words: the text to draw for each class.
    """
    shares = matrix / np.maximum(images, 1)[:, None]
    order, note = list(range(len(words))), ""
    if len(words) > ANNOTATED:
        order, note = confusion_order(shares), "classes that are confused stand together"
    names = [words[number] for number in order]
    return _source(
        matrix_chart(
            shares[np.ix_(order, order)], names, names, "share of the true class's images", note
        )
    )


def reliability_diagram(found):
    """Accuracy over confidence, and how many images have which confidence.

    Args:
        found: `other.calibration_error.Reliability`.
    """
    from matplotlib.figure import Figure

    figure = Figure((5, 5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    filled = found.count > 0
    left, width = found.edges[:-1][filled], np.diff(found.edges)[filled]
    upper.bar(
        left,
        found.accuracy[filled],
        width,
        align="edge",
        color=BLUE,
        edgecolor="white",
        label="share of right answers",
    )
    upper.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="honest")
    upper.plot(
        found.confidence[filled],
        found.accuracy[filled],
        "o",
        color=ORANGE,
        markersize=4,
        label="mean probability of the bin",
    )
    upper.set_ylabel("share of right answers")
    upper.set_ylim(0, 1.02)
    upper.legend(fontsize=8, loc="upper left")
    lower.bar(left, found.count[filled], width, align="edge", color=GREY, edgecolor="white")
    lower.set_ylabel("images")
    lower.yaxis.get_major_locator().set_params(integer=True)
    lower.set_xlabel("probability that the model gives its answer")
    lower.set_xlim(0, 1)
    return _source(figure)


def _source(figure):
    """A figure as the `src` of an HTML image: an SVG, its letters drawn as shapes."""
    data = io.BytesIO()
    figure.savefig(data, format="svg", metadata={"Date": None}, bbox_inches="tight", pad_inches=0.1)
    return f"data:image/svg+xml;base64,{base64.b64encode(data.getvalue()).decode()}"
