"""data/moved_photos.py: a training finds the photos that the label page moves meanwhile."""

import numpy as np
import pytest
from conftest import write_image

from common.errors import ImageError
from data.geometry import Preprocessing
from data.image_reader import ImageReader
from data.moved_photos import find_moved
from other.labelling.photo_set import PhotoSet


@pytest.fixture
def root(tmp_path):
    for seed, name in enumerate(("glass/1.png", "glass/2.png", "metal/1.png", "_unsorted/a/3.png")):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(tmp_path / "photos" / name, seed=seed)
    return tmp_path / "photos"


def test_moves_are_followed_and_undone(root):
    first, third = str(root / "glass" / "1.png"), str(root / "_unsorted" / "a" / "3.png")
    assert find_moved(first) is None  # nobody has opened the page
    with PhotoSet(str(root)) as photos:
        position = photos.paths.index("glass/1.png")
        photos.label([position], "metal")
        assert find_moved(first) == str(root / "metal" / "1-2.png")
        photos.label([position], "new")
        photos.label([photos.paths.index("_unsorted/a/3.png")], "glass")
        assert find_moved(first) == str(root / "new" / "1-2.png")
        assert find_moved(third) == str(root / "glass" / "3.png")
        photos.undo()
        photos.undo()
        assert find_moved(first) == str(root / "metal" / "1-2.png")
        photos.redo()
        photos.rename_class("metal", "can")
        assert find_moved(first) == str(root / "new" / "1-2.png")
        assert find_moved(str(root / "metal" / "1.png")) == str(root / "can" / "1.png")
        while photos.undo():
            pass
    assert find_moved(str(root / "other.png")) is None
    assert find_moved(first) == first and find_moved(third) == third


def test_a_reader_reads_on(root):
    reader, before, after = ImageReader(Preprocessing(32)), *np.zeros((2, 32, 32, 3), np.uint8)
    path = str(root / "glass" / "2.png")
    reader.read(path, (0, 0, 0, 0), before)
    with PhotoSet(str(root)) as photos:
        photos.label([photos.paths.index("glass/2.png")], "metal")
    reader.read(path, (0, 0, 0, 0), after)
    assert np.array_equal(before, after) and before.any()
    (root / "metal" / "2.png").unlink()
    with pytest.raises(ImageError, match="glass/2.png"):
        reader.read(path, (0, 0, 0, 0), after)
