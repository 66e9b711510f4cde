"""How the figures of `--mode benchmark` are shown: as text, as a CSV, as a chart."""

from common.tables import write_table
from config.parser import show
from pages.rendering import light_colors

# Runtime -> a colour of the pages, by its name
COLORS = {"savedmodel": "second", "onnx": "accent", "openvino": "third", "litert": "fourth"}


def chart(rows, title):
    """Two panels with a bar per runtime and precision: time for one image, images per second.

    Args:
        rows: list of dict with the keys `benchmark.COLUMNS`.
        title: str, above both panels.

    Returns:
        `matplotlib.figure.Figure`.
    """
    from matplotlib.figure import Figure

    colors = light_colors()
    figure = Figure((10, 1.3 + 0.42 * len(rows)), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    panels = figure.subplots(1, 2, sharey=True)
    titles = (
        "milliseconds for one image (less is better)",
        "images per second at the best batch size (more is better)",
    )
    for axes, key, words in zip(panels, ("milliseconds", "images_per_second"), titles):
        values = [row[key] or 0 for row in rows]
        bars = axes.barh(
            range(len(rows)), values, 0.7, color=[colors[COLORS[row["runtime"]]] for row in rows]
        )
        notes = [_note(row, key) for row in rows]
        for text, row in zip(axes.bar_label(bars, notes, padding=4, fontsize=9), rows):
            text.set_color(colors["faint" if row["problem"] else "text"])
        axes.set_xlim(0, (max(values) or 1) * 1.4)
        axes.set_xlabel(words, fontsize=9)
        axes.tick_params("y", length=0)
    names = [name_of(row) + (" (auto)" if row["auto"] else "") for row in rows]
    for text, row in zip(panels[0].set_yticks(range(len(rows)), names), rows):
        text.label1.set_fontweight("bold" if row["auto"] else "normal")
    panels[0].set_ylim(len(rows) - 0.4, -0.6)
    return figure


def _note(row, key):
    if row["problem"]:
        return row["problem"].split(":")[0]  # the whole of an error is too long
    batch = f"  (batch {row['batch_size']})" if key == "images_per_second" else ""
    return _number(row[key]) + batch


def name_of(row):
    """The runtime and precision of a row, such as "onnx int8".

    Args:
        row: dict, one row of the table.

    Returns:
        str.
    """
    return f"{row['runtime']} {row['precision']}"


def _number(value):
    """At least three digits, and all before the decimal point."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:#.3g}"


def text(result):
    """The figures as a table for a terminal.

    Args:
        result: dict, the answer of `--json`.

    Returns:
        str.
    """
    text_lines = [f"{result['model']}, computed on {result['cores']} cores"]
    if result["original"]:
        text_lines.append(
            f"agreement and difference: to {result['original']}, on "
            f"{result['images']} images of {result['images_from']}"
        )
    else:
        text_lines.append(
            "agreement and difference: only of the export, to the trained model; "
            "--data measures them here"
        )
    table_rows = [
        (
            "  runtime",
            "precision",
            "MB",
            "load s",
            "ms",
            "ms 95 %",
            "images/s",
            "batch",
            "memory MB",
            "accuracy",
            "95 % interval",
            "agreement",
            "difference",
        )
    ]
    table_rows += [_cells(row) for row in result["results"]]
    used_columns = [column for column in zip(*table_rows) if any(column[1:])]
    column_widths = [max(map(len, column)) for column in used_columns]
    for position, cells in enumerate(zip(*used_columns)):
        line = "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(cells, column_widths))
        )
        problem = result["results"][position - 1]["problem"] if position else None
        text_lines.append(f"{line.rstrip()}  {problem}" if problem else line.rstrip())
    if any(row["auto"] for row in result["results"]):
        text_lines.append("* what --runtime auto of --mode predict takes")
    if any(row["accuracy"] is not None for row in result["results"]):
        text_lines += [f"counted as wrong: {line}" for line in result["undecodable"]]
    text_lines.append(f"table and chart: {result['target']}")
    return "\n".join(text_lines)


def _cells(row):
    """The cells of one row of the table; empty where there is no figure."""

    def cell(key, form):
        return "" if row[key] is None else form(row[key])

    interval = ""
    if row["accuracy"] is not None:
        interval = f"{row['accuracy_low']:.4f} - {row['accuracy_high']:.4f}"
    return (
        ("* " if row["auto"] else "  ") + row["runtime"],
        row["precision"],
        cell("bytes", lambda value: _number(value / 1e6)),
        cell("load_seconds", "{:.2f}".format),
        cell("milliseconds", _number),
        cell("milliseconds_95", _number),
        cell("images_per_second", _number),
        cell("batch_size", str),
        cell("peak_memory", lambda value: f"{value / 1e6:.0f}"),
        cell("accuracy", "{:.4f}".format),
        interval,
        cell("agreement", "{:.2%}".format),
        cell("difference", "{:.1e}".format),
    )


def write_csv(path, rows):
    """Writes the figures as a CSV, one line per row.

    Args:
        path: str, the file.
        rows: list of dict, one per runtime and precision.
    """
    shown_rows = ({**row, "auto": show(row["auto"])}.values() for row in rows)
    write_table(path, rows[0], shown_rows, errors="backslashreplace")
