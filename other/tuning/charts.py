"""The charts of a study: its scores trial by trial, and by the value of each option."""

import math

from other.reporting.svg_plot import Axis, Plot

MOST_VALUE_CHARTS = 6


def draw_charts(records, space, names, texts):
    """The scores trial by trial, then by the value of each option that is no choice.

    Args:
        records: list of `Record`, the starting point first.
        space: `Space`.
        names: list of str, its options, the most important first.
        texts: function of `text_tables.texts_of`.

    Returns:
        list of (title, SVG), one per chart.
    """
    scored = [record for record in records if record.score is not None]
    scores = [record.score for record in scored]
    margin = max(0.01, 0.05 * (max(scores) - min(scores)))
    y_axis = Axis(max(0.0, min(scores) - margin), min(1.0, max(scores) + margin), "", ".1%")
    numeric_names = [name for name in names if not space.dimensions[name].choices]
    return [
        _history_chart(scored, y_axis, texts),
        *(
            _value_chart(name, scored, y_axis, space.dimensions[name], texts)
            for name in numeric_names[:MOST_VALUE_CHARTS]
        ),
    ]


def _history_chart(scored, y_axis, texts):
    title, last = texts("tune.chart.trials"), max(2, scored[-1].number + 1)
    plot = Plot(title, Axis(1, last, texts("tune.trial"), whole=True), y_axis)
    plot.line([1, last], [scored[0].score] * 2, "faint", dashed=True)
    best_scores, highest = [], -math.inf
    for record in scored:
        highest = max(highest, record.score if record.state == "complete" else -math.inf)
        best_scores.append(highest)
    trial_numbers = [record.number + 1 for record in scored]
    plot.line(trial_numbers, best_scores, "second")
    _mark(plot, trial_numbers, scored)
    return title, plot.svg()


def _value_chart(name, scored, y_axis, dimension, texts):
    title = texts("tune.chart.value", name=name)
    scale = math.log10 if dimension.log else float
    label = texts("tune.chart.log", name=name) if dimension.log else name
    x_axis = Axis(scale(dimension.low), scale(dimension.high), label)
    plot = Plot(title, x_axis, y_axis)
    _mark(plot, [scale(record.values[name]) for record in scored], scored)
    return title, plot.svg()


def _mark(plot, x_values, scored):
    """Draws a dot per trial: faint where it was ended early."""
    for state, color in (("pruned", "faint"), ("complete", "accent")):
        chosen = [(x, record.score) for x, record in zip(x_values, scored) if record.state == state]
        plot.marks([x for x, _ in chosen], [score for _, score in chosen], color)
