"""Photos that a run was trained or validated on are known by their content."""

import hashlib
import os
import shutil

import numpy as np
import pytest
from conftest import write_image, write_samples

from config import parser
from data.samples import Samples, read_samples
from data.splitting import hash_files
from evaluation import known_photos, label_errors
from runs import run_folder
from runs.margin_files import (
    read_hashes,
    read_margins,
    write_margins,
    write_trained_on,
    write_validated_on,
)

CLASSES = ("red", "green", "blue")


def digest(path):
    with open(path, "rb") as file:
        return int.from_bytes(hashlib.sha256(file.read()).digest()[:8], "big")


@pytest.fixture
def run(tmp_path):
    """A run trained on four photos of each class and validated on two."""
    path = str(tmp_path / "run")
    run_folder.create(path, parser.parse("train", []), CLASSES, False)
    training = read_samples(write_samples(tmp_path / "train", 4), CLASSES)
    validation = read_samples(write_samples(tmp_path / "val", 2, seed=7), CLASSES)
    hashes = [
        hash_files([os.path.join(samples.folder, name) for name in samples.file_names], 2)
        for samples in (training, validation)
    ]
    write_trained_on(path, training, hashes[0])
    write_validated_on(path, hashes[1])
    return path, training, validation


def elsewhere(samples, folder):
    """Copies of the photos under other names, in no order."""
    os.makedirs(folder)
    names = [f"photo_{number * 7 % len(samples.file_names)}.png" for number in range(
        len(samples.file_names))]
    for name, new_name in zip(samples.file_names, names):
        shutil.copy(os.path.join(samples.folder, name), os.path.join(folder, new_name))
    return Samples(str(folder), names, samples.class_ids)


def test_hashes_are_those_of_the_bytes(tmp_path):
    folder = write_samples(tmp_path / "data", 2)
    paths = [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
    assert hash_files([*paths, str(tmp_path / "gone")], 2).tolist() == [*map(digest, paths), 0]


def test_a_run_keeps_them(run):
    path, training, validation = run
    trained, validated = read_hashes(path)
    for position, name in enumerate(training.file_names):
        content = digest(os.path.join(training.folder, name))
        assert trained[content] == (position, training.class_ids[position])
    assert validated == {digest(os.path.join(validation.folder, name))
                         for name in validation.file_names}
    assert len(read_margins(path)[0]) == 12  # as before


def test_copies_elsewhere_under_other_names_are_told(run, tmp_path, capsys):
    path, training, validation = run
    copies = elsewhere(training, tmp_path / "copies")
    assert label_errors.trained_on(path, copies).all()
    assert known_photos.tell(path, copies) == (12, 0)
    assert "was trained on 12 of these 12 photos and validated on 0" in capsys.readouterr().err
    assert known_photos.tell(path, elsewhere(validation, tmp_path / "more")) == (0, 6)
    assert "trained on 0 of these 6 photos and validated on 6" in capsys.readouterr().err
    # An exported model is that of its run.
    os.makedirs(os.path.join(path, "model"))
    assert known_photos.tell(os.path.join(path, "model"), copies) == (12, 0)


def test_another_photo_of_an_old_name_is_new(run, tmp_path):
    """Whether in the folder that was trained on or in one that took its place."""
    path, training, _ = run
    write_image(os.path.join(training.folder, training.file_names[0]), (9, 9, 200), seed=50)
    assert label_errors.trained_on(path, training).tolist() == [False] + [True] * 11
    shutil.rmtree(training.folder)
    write_samples(tmp_path / "train", 4, seed=60)
    assert not label_errors.trained_on(path, training).any()


def test_new_photos_are_no_news(run, tmp_path, capsys):
    path, *_ = run
    new = read_samples(write_samples(tmp_path / "new", 3, seed=9), CLASSES)
    assert known_photos.tell(path, new) == (0, 0)
    assert known_photos.tell(str(tmp_path), new) == (0, 0)  # no run
    assert capsys.readouterr().err == ""


def test_labels_of_copies_are_judged_by_their_margins(run, tmp_path):
    path, training, _ = run
    with open(os.path.join(path, run_folder.RESULTS), "w") as file:
        file.write("epoch,loss,accuracy,val_loss,val_accuracy,learning_rate\n"
                   "1,0.1,1.0,0.1,1.0,0.001\n")
    margins = np.arange(12, dtype=np.float16)
    write_margins(path, 0, margins)
    copies = elsewhere(training, tmp_path / "copies")
    assert label_errors.recall(path, copies).margins.tolist() == margins.tolist()
    # Not where the label is another now.
    copies.class_ids[3] = (copies.class_ids[3] + 1) % 3
    found = label_errors.recall(path, copies)
    assert np.isnan(found.margins[3]) and found.seen.all()


def test_a_run_of_an_earlier_version_knows_paths_alone(run, tmp_path):
    path, training, _ = run
    write_trained_on(path, training)
    os.unlink(os.path.join(path, "margins", "validation.npy"))
    assert read_hashes(path) == ({}, set())
    assert label_errors.trained_on(path, training).all()
    assert not label_errors.trained_on(path, elsewhere(training, tmp_path / "copies")).any()
