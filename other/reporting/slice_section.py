"""Slices of the photos as the report's page shows them, and as lines of report and compare."""

import math

from common.errors import first_ten
from evaluation.slices import BETTER, MIN_PHOTOS, WORSE
from other.reporting import report_charts
from other.reporting.report_warnings import listed

MOST_NAMED = 3  # slices that a line of the console names
THAN_REST, THAN_A = "{} than the rest at the same classes", "B is {} than A"


def page_values(measured, texts):
    """What the template report.html takes.

    Args:
        measured: dict, from `slices.measure`.
        texts: function of `text_tables.texts_of`.

    Returns:
        dict: rows, those of `measured` with the value in words and a chart; sentences and
        remarks, lists; tests, int; axis_low, str, where the charts begin.
    """
    rows = measured["rows"]
    shown = [row["accuracy_interval"][0] for row in rows]
    shown += [row["expected_accuracy"] for row in rows if row["expected_accuracy"] is not None]
    axis_low = min(math.floor(min(shown) * 10) / 10, 0.9)
    worded_rows = [_worded(row, axis_low, texts) for row in rows]
    return {
        "rows": worded_rows,
        "sentences": _sentences(worded_rows, measured["tests"], texts),
        "remarks": [
            sentence for own in measured["attributes"] for sentence in _remarks(own, texts)
        ],
        "tests": measured["tests"],
        "axis_low": f"{axis_low:.0%}",
    }


def _worded(row, axis_low, texts):
    value = row["value"]
    if row["pooled"]:
        value = texts("report.slices_pooled", count=f"{row['pooled']:,}")
    low, high = row["accuracy_interval"]
    expected = row["expected_accuracy"]
    expected_text = "–" if expected is None else f"{expected:.1%}"
    title = texts(
        "report.slices_chart",
        accuracy=f"{row['accuracy']:.1%}",
        low=f"{low:.1%}",
        high=f"{high:.1%}",
        expected=expected_text,
    )
    score = row["accuracy"], low, high
    chart = report_charts.interval(score, expected, axis_low, title)
    verdict = texts(f"report.slices_verdict.{row['verdict'].replace(' ', '_')}")
    differences = (row["difference"], *row["difference_interval"])
    return {
        **row,
        "value": value,
        "chart": chart,
        "expected_text": expected_text,
        "points": [f"{difference * 100:+.1f}" for difference in differences],
        "verdict_text": verdict,
    }


def _sentences(rows, tests, texts):
    """What stands out, the worse slices first: list of (verdict or "", sentence)."""
    sentences = []
    for verdict in (WORSE, BETTER):
        names = [
            texts(
                "report.slices_named",
                attribute=row["attribute"],
                value=row["value"],
                accuracy=f"{row['accuracy']:.1%}",
                expected=f"{row['expected_accuracy']:.1%}",
            )
            for row in rows[:: 1 if verdict == WORSE else -1]
            if row["verdict"] == verdict
        ]
        if names:
            sentences.append(
                (verdict, texts(f"report.slices_{verdict}", names=listed(names, texts)))
            )
    return sentences or [("", texts("report.slices_none", tests=f"{tests:,}"))]


def _remarks(own, texts):
    """How an attribute was divided where this is not plain: list of sentences."""
    keys = [
        ("useless", not own["slices"]),
        ("cut", own["is_cut"]),
        ("unknown", own["unknown"] if own["slices"] else 0),
        ("rare", own["rare"] if own["slices"] else 0),
    ]
    return [
        texts(f"report.slices_{key}", name=own["attribute"], count=f"{count:,}", least=MIN_PHOTOS)
        for key, count in keys
        if count
    ]


def text_lines(measured, than):
    """At most three lines of what stands out.

    Args:
        measured: dict, from `slices.measure` or `slices.measure_paired`.
        than: str, `THAN_REST` or `THAN_A`.

    Returns:
        list of str.
    """
    rows = measured["rows"]
    attributes = first_ten([own["attribute"] for own in measured["attributes"] if own["slices"]])
    lines = []
    for verdict in (WORSE, BETTER):
        named = [row for row in rows[:: 1 if verdict == WORSE else -1] if row["verdict"] == verdict]
        if named:
            first_named = "; ".join(map(_slice_text, named[:MOST_NAMED]))
            more = f"; and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
            lines.append(f"{than.format(verdict)}: {first_named}{more}")
    if not lines:
        lines = ["no slice stands out: differences as large as these arise by chance"]
    heading = f"{len(rows)} slices by {attributes}, corrected for {measured['tests']} comparisons"
    return [heading, *lines]


def _slice_text(row):
    name = f"{row['attribute']} {row['value']}"
    if "expected_accuracy" in row:
        return f"{name} ({row['accuracy']:.4f} instead of {row['expected_accuracy']:.4f})"
    low, high = row["difference_interval"]
    return f"{name} ({row['difference']:+.4f}, 95 % interval {low:+.4f} to {high:+.4f})"
