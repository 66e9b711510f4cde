"""Plots and matrices inside pages: where points lie, which values are marked, what cells say."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from other.reporting.svg_matrix import matrix_svg
from other.reporting.svg_plot import Axis, Plot
from pages.text_tables import texts_of


@pytest.mark.parametrize("axis, most, ticks", [
    (Axis(0, 1), 5, [0, 0.2, 0.4, 0.6, 0.8, 1]),
    (Axis(0, 0.0011), 5, [0, 0.00025, 0.0005, 0.00075, 0.001]),
    (Axis(1, 20, whole=True), 4, [5, 10, 15, 20]),
    (Axis(1, 3, whole=True), 5, [1, 2, 3]),
    (Axis(0, 2, whole=True), 9, [0, 1, 2]),
    (Axis(0.7, 1), 5, [0.7, 0.8, 0.9, 1]),
    (Axis(3, 3), 5, [3]),
])
def test_ticks_are_round_values(axis, most, ticks):
    assert axis.ticks(most) == pytest.approx(ticks)


def test_points_lie_where_their_values_are():
    """In the middle, at the ends, and nothing for what is not a number."""
    plot = Plot("a <title> & more", Axis(0, 4), Axis(0, 10), (400, 200))
    plot.line([0, 1, 2, 3, 4], [0, float("nan"), 5, float("inf"), 10], "accent")
    plot.bars([0, 2, 4], [10, 0], "bar")
    root = ET.fromstring(str(plot.svg()))
    assert root.attrib["aria-label"] == "a <title> & more"
    (line,) = root.iter("polyline")
    (x0, y0), (x1, y1), (x2, y2) = [map(float, point.split(",")) for point in
                                    line.attrib["points"].split()]
    assert (x1, y1) == pytest.approx(((x0 + x2) / 2, (y0 + y2) / 2), abs=0.11)
    assert x2 - x0 > 300 and y0 - y2 > 150 and (y0, y2) == (176, 10)
    (bar,) = root.iter("rect")  # the empty one is left out
    assert float(bar.attrib["height"]) == y0 - y2
    assert float(bar.attrib["x"]) + float(bar.attrib["width"]) == pytest.approx(x1 - 0.5, abs=0.11)


def test_one_epoch_is_a_mark():
    plot = Plot("one", Axis(1, 2, whole=True), Axis(0, 1))
    plot.line([1], [0.5], "third")
    assert str(plot.svg()).count("<circle") == 1 and "<polyline" not in str(plot.svg())


@pytest.mark.parametrize("count", [3, 30])
def test_cells_of_a_matrix(count):
    """Their colours say right or wrong, their titles which classes; names are text, escaped."""
    names = ["<b>", "狐狸", *map(str, range(2, count))]
    matrix = np.eye(count, dtype=int) * 3
    matrix[0, 1], matrix[0, 0] = 1, 2
    images = np.full(count, 3)
    images[0] = 4  # one got no answer
    order = list(range(count))[::-1]
    svg = str(matrix_svg(matrix, images, names, order, texts_of("en")))
    root = ET.fromstring(svg)
    cells = {group.find("title").text: group for group in root.iter("g")
             if group.find("title") is not None}
    assert len(cells) == count + 1
    wrong, right = cells["<b> → 狐狸: 1 images, 25.0%"], cells["<b> → <b>: 2 images, 50.0%"]
    assert wrong.find("rect").attrib["class"] == "mark wrong"
    assert right.find("rect").attrib["class"] == "mark accent"
    opacities = [float(cell.find("rect").attrib["fill-opacity"]) for cell in (wrong, right)]
    assert opacities[0] < opacities[1] < 1
    assert (wrong.find("text") is not None) is (count == 3)
    # The first class is the last row and column here.
    x, y = (float(right.find("rect").attrib[name]) for name in "xy")
    assert all(float(cell.find("rect").attrib["x"]) <= x and
               float(cell.find("rect").attrib["y"]) <= y for cell in cells.values())
    assert len(re.findall(r">&lt;b&gt;</text>", svg)) == 2
