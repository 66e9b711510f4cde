"""Plots as SVG inside a page, in its own type and colours, on the light side and the dark."""

import html
import math
from typing import NamedTuple

LETTER = 6.8  # pixels, about the width of a digit in the page's type at the size of tick labels
MARK_RADIUS = 3.5


class Axis(NamedTuple):
    """An axis: the range of its values and how they are written.

    Attributes:
        low, high: float, the values at its ends.
        label: str, what its values are; "" for nothing.
        number_format: str, the format of tick labels.
        whole: bool, whether only whole numbers get a tick.
    """

    low: float
    high: float
    label: str = ""
    number_format: str = "g"
    whole: bool = False

    def ticks(self, most):
        """The round values to mark, as a list of float.

        Args:
            most: int, maximum number of ticks.
        """
        raw_step = max((self.high - self.low) / most, 1e-12)
        magnitude = 10 ** math.floor(math.log10(raw_step))
        step = next(unit * magnitude for unit in (1, 2, 2.5, 5, 10) if unit * magnitude >= raw_step)
        if self.whole:
            step = max(1, math.ceil(step))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [index * step for index in range(first, last + 1)]


class Plot:
    """Two axes with lines, bars and marks; every colour is a class of the pages' style.

    Args:
        title: str, what a screen reader says instead of the picture.
        x_axis, y_axis: `Axis`.
        size: (width, height) in pixels.

    Example:

    ```python
    plot = Plot("loss per epoch", Axis(1, 3, "epoch", whole=True), Axis(0, 2))
    plot.line([1, 2, 3], [2.0, 1.2, 0.9], "second")
    svg = plot.svg()
    ```
    """

    def __init__(self, title, x_axis, y_axis, size=(280, 190)):
        self._title, self._x_axis, self._y_axis = title, x_axis, y_axis
        self._width, self._height = size
        self._y_ticks = y_axis.ticks(5)
        longest = max(len(format(tick, y_axis.number_format)) for tick in self._y_ticks or [0])
        self._left = longest * LETTER + 12 + 18 * bool(y_axis.label)
        self._right, self._top = self._width - 14, 10
        self._bottom = self._height - 24 - 18 * bool(x_axis.label)
        self._shapes = []

    @property
    def y_range(self):
        """(lowest, highest) value of the y axis."""
        return self._y_axis.low, self._y_axis.high

    def _x(self, value):
        span = (self._x_axis.high - self._x_axis.low) or 1
        share = (value - self._x_axis.low) / span
        return round(self._left + share * (self._right - self._left), 1)

    def _y(self, value):
        span = (self._y_axis.high - self._y_axis.low) or 1
        share = (value - self._y_axis.low) / span
        return round(self._bottom - share * (self._bottom - self._top), 1)

    def line(self, x_values, y_values, color, dashed=False):
        """Draws a line; a single point becomes a mark.

        Args:
            x_values, y_values: sequences of N float; values that are not finite are left out.
            color: str, a class of the style: accent, second, third, fourth, fifth or faint.
            dashed: bool.
        """
        points = [
            f"{self._x(x)},{self._y(y)}"
            for x, y in zip(x_values, y_values)
            if math.isfinite(x) and math.isfinite(y)
        ]
        if len(points) == 1:
            self.marks(x_values, y_values, color)
        elif points:
            dashes = ' stroke-dasharray="5 4"' if dashed else ""
            points_text = " ".join(points)
            self._shapes.append(f'<polyline class="line {color}"{dashes} points="{points_text}"/>')

    def marks(self, x_values, y_values, color):
        """Draws a dot per point.

        Args:
            x_values, y_values: sequences of N float.
            color: str, a class of the style.
        """
        self._shapes += [
            f'<circle class="mark {color}" cx="{self._x(x)}" cy="{self._y(y)}" r="{MARK_RADIUS}"/>'
            for x, y in zip(x_values, y_values)
            if math.isfinite(x) and math.isfinite(y)
        ]

    def bars(self, edges, heights, color):
        """Draws a bar per bin, from the lower end of the y axis.

        Args:
            edges: sequence of N + 1 float.
            heights: sequence of N float.
            color: str, a class of the style.
        """
        for left, right, height in zip(edges, edges[1:], heights):
            x, y = self._x(left) + 0.5, self._y(height)
            width, length = max(self._x(right) - x - 0.5, 1), self._y(self._y_axis.low) - y
            if length > 0:
                self._shapes.append(
                    f'<rect class="mark {color}" x="{x:.1f}" y="{y}" width="{width:.1f}" '
                    f'height="{length:.1f}"/>'
                )

    def svg(self):
        """The plot as an SVG: `markupsafe.Markup`, which templates do not escape."""
        from markupsafe import Markup

        left, right, bottom = self._left, self._right, self._bottom
        parts = [open_svg(self._width, self._height, self._title)]
        for tick in self._y_ticks:
            y = self._y(tick)
            parts.append(f'<path class="grid" d="M{left:.1f} {y}H{right}"/>')
            parts.append(label(left - 6, y + 4, format(tick, self._y_axis.number_format), "end"))
        for tick in self._x_axis.ticks(max(2, int((right - left) / 48))):
            tick_text = format(tick, self._x_axis.number_format)
            parts.append(label(self._x(tick), bottom + 17, tick_text, "middle"))
        parts.append(f'<path class="axis" d="M{left:.1f} {bottom}H{right}"/>')
        if self._x_axis.label:
            parts.append(label((left + right) / 2, bottom + 36, self._x_axis.label, "middle"))
        if self._y_axis.label:
            middle = (bottom + self._top) / 2
            parts.append(label(12, middle, self._y_axis.label, "middle", turn=-90))
        return Markup("".join([*parts, *self._shapes, "</svg>"]))


def open_svg(width, height, title):
    """The start tag of an SVG that is one picture to a screen reader.

    Args:
        width, height: float, pixels.
        title: str, what it shows.

    Returns:
        str.
    """
    return (
        f'<svg role="img" aria-label="{html.escape(title)}" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}">'
    )


def label(x, y, text, anchor="start", turn=0):
    """A line of text in an SVG.

    Args:
        x, y: float, pixels: where its base line begins, has its middle or ends.
        text: str.
        anchor: str, "start", "middle" or "end".
        turn: float, degrees clockwise.

    Returns:
        str.
    """
    turned = f' transform="rotate({turn:g} {x:.1f} {y:.1f})"' if turn else ""
    place = f'x="{x:.1f}" y="{y:.1f}"'
    return f'<text {place} text-anchor="{anchor}"{turned}>{html.escape(text)}</text>'
