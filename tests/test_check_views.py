"""export/check_views.py: views of few images, decoded as they were written, with their classes."""

import os

import numpy as np
import pytest
from conftest import write_image

from data.decoding import load
from data.geometry import Preprocessing
from data.samples import read_label
from export import check_views
from export.check_views import write_views

INPUT = Preprocessing(32, "crop")
CLASS_NAMES = ("red", "green")


@pytest.fixture
def paths(tmp_path):
    for number in range(3):
        write_image(tmp_path / f"{number}.png", (60 * number, 90, 200), (50, 40), number)
    return [str(tmp_path / f"{number}.png") for number in range(3)]


def test_all_views_of_few_images(paths, tmp_path):
    folder = tmp_path / "views"
    folder.mkdir()
    view_paths, views = write_views(paths, np.array([1, -1, 0]), INPUT, str(folder))
    assert len(view_paths) == len(views) == 3 * 11
    for path, view in zip(view_paths, views):
        assert np.array_equal(load(path, INPUT), view)
    originals = [load(path, INPUT) for path in paths]
    for view, image in zip(views, originals):
        assert np.array_equal(view, image[:, ::-1])
    distinct = {view.tobytes() for view in [*views, *originals]}
    assert len(distinct) == 36
    labels = {os.path.basename(path)[0]: set() for path in view_paths}
    for path in view_paths:
        if os.path.exists(path.replace(".png", ".txt")):
            name = os.path.basename(path)
            labels[name[0]].add(read_label(str(folder), name, CLASS_NAMES, ""))
    assert labels == {"0": {1}, "1": set(), "2": {0}}


def test_no_more_views_than_are_needed(paths, tmp_path, monkeypatch):
    monkeypatch.setattr(check_views, "ENOUGH_INPUTS", 10)
    folder = tmp_path / "views"
    folder.mkdir()
    view_paths, _ = write_views(paths, np.zeros(3, int), INPUT, str(folder))
    assert len(view_paths) == 7
    monkeypatch.setattr(check_views, "ENOUGH_INPUTS", 3)
    assert write_views(paths, np.zeros(3, int), INPUT, str(folder)) == ([], [])
