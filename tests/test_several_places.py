"""data/several_places.py: `--train_data A B`, several places as one data set."""

import json
import os

import numpy as np
import pytest
from conftest import write_image, write_samples

from common.errors import InputError
from config import parser
from data import parts
from data.several_places import paths_of, read_all, read_each
from runs import reference_images, run_folder
from runs.margin_files import write_trained_on
from training import setup

COLORS = {"glass": (40, 160, 60), "metal": (90, 90, 200), "paper": (200, 170, 60)}


def folders(root, counts, seed=0):
    """One folder per class, with photos that differ."""
    for class_name, count in counts.items():
        os.makedirs(root / class_name, exist_ok=True)
        for number in range(count):
            path = root / class_name / f"{number}.png"
            write_image(path, COLORS[class_name], seed=1000 * seed + number)
    return str(root)


def named(data):
    """{absolute path: class name}."""
    return {
        os.path.join(data.samples.folder, name): data.class_names[class_id]
        for name, class_id in zip(data.samples.file_names, data.samples.class_ids)
    }


def prepare(tmp_path, *places, words=()):
    options = ["--train_data", *places, "--save_dir", str(tmp_path / "runs"), *words]
    return setup.prepare(parser.parse("train", [*options, "--weights", "none"]))


def test_classes_of_all_places_together(tmp_path, capsys):
    """Of folders, a CSV and the sample format, whose own ids differ."""
    first = folders(tmp_path / "a" / "first", {"glass": 2, "paper": 1})
    write_image(tmp_path / "x.png")
    table = tmp_path / "photos.csv"
    table.write_text("path,label\nx.png,metal\n")
    samples = write_samples(tmp_path / "samples", 1, {"paper": COLORS["paper"]})
    data = read_all((first, str(table), samples))
    assert data.class_names == ("glass", "metal", "paper")
    assert named(data) == {
        os.path.join(first, "glass", "0.png"): "glass",
        os.path.join(first, "glass", "1.png"): "glass",
        os.path.join(first, "paper", "0.png"): "paper",
        str(tmp_path / "x.png"): "metal", os.path.join(samples, "img_0_0.png"): "paper",
    }
    assert data.samples.folder == str(tmp_path)
    assert "1 images of 1 classes" in capsys.readouterr().err
    one = read_all(first)
    assert one.samples.folder == first and one.class_names == ("glass", "paper")
    assert [each.class_names for each in read_each((first, samples))] == [("glass", "paper")] * 2


def test_places_within_places_are_refused(tmp_path):
    place = folders(tmp_path / "photos", {"glass": 1, "paper": 1})
    for other in (place, os.path.join(place, "glass"), os.path.join(place, "..", "photos")):
        with pytest.raises(InputError, match="its images would count twice"):
            read_all((place, other))
    folders(tmp_path / "photos2", {"glass": 1, "paper": 1})
    assert len(read_all((place, str(tmp_path / "photos2"))).samples.file_names) == 4


def test_a_run_keeps_one_place_as_text_and_several_as_a_list(tmp_path):
    assert paths_of("a") == ("a",) and paths_of(("a", "b")) == ("a", "b")
    for words, wanted in ((["a"], "a"), (["a", "b"], ("a", "b"))):
        options = parser.parse("train", ["--train_data", *words, "--input_size", "32"])
        assert options.train_data == wanted
        path = tmp_path / "-".join(words)
        run_folder.create(str(path), options, ("glass", "paper"), False)
        assert run_folder.read(str(path), weights=None).options.train_data == wanted


def test_some_of_all_places_are_held_out(tmp_path):
    first = folders(tmp_path / "a", {"glass": 40}, seed=1)
    second = folders(tmp_path / "b", {"paper": 40, "glass": 5}, seed=2)
    ready = prepare(tmp_path, first, second, words=("--val_fraction", "0.3"))
    both = [*ready.training.file_names, *ready.validation.file_names]
    assert len(both) == len(set(both)) == 85 and ready.class_names == ("glass", "paper")
    assert ready.validation.file_names


def test_each_place_keeps_to_its_parts(tmp_path, capsys):
    places = [folders(tmp_path / name, {"glass": 10, "paper": 10}, seed)
              for seed, name in enumerate(("a", "b"))]
    with pytest.raises(InputError, match="b has none; --mode split --data"):
        parts.update(places[0], read_all(places[0]).samples)
        prepare(tmp_path, *places)
    wanted = {name: set() for name in parts.PARTS}
    for place in places:
        samples = read_all(place).samples
        assignment = parts.update(place, samples)
        for name, part in zip(samples.file_names, assignment.parts):
            wanted[parts.PARTS[part]].add(os.path.join(place, name))
    ready = prepare(tmp_path, *places)
    for samples, name in ((ready.training, "train"), (ready.validation, "val")):
        assert {os.path.join(samples.folder, file) for file in samples.file_names} == wanted[name]
    assert wanted["test"]


def test_the_validation_data_are_none_of_the_training_data(tmp_path):
    places = [folders(tmp_path / name, {"glass": 3, "paper": 3}, seed)
              for seed, name in enumerate(("a", "b"))]
    with pytest.raises(InputError, match="is the training data"):
        prepare(tmp_path, *places, words=("--val_data", places[1]))
    ready = prepare(tmp_path, places[0], words=("--val_data", places[1]))
    assert len(ready.training.file_names) == len(ready.validation.file_names) == 6


def test_a_config_file_names_several(tmp_path):
    place = folders(tmp_path / "a", {"glass": 3, "paper": 3})
    other = folders(tmp_path / "b", {"glass": 3, "paper": 3}, seed=1)
    config = tmp_path / "options.yaml"
    config.write_text("train_data: " + json.dumps([place, other]))
    options = parser.parse("train", ["--config", str(config)])
    assert options.train_data == (place, other)
    assert np.bincount(read_all(options.train_data).samples.class_ids).tolist() == [6, 6]


def test_export_finds_validation_images_of_each_place(tmp_path):
    """Those that the run was not trained on, and their classes."""
    places = [folders(tmp_path / name, {"glass": 3, "paper": 3}, seed)
              for seed, name in enumerate(("a", "b"))]
    options = parser.parse("train", ["--train_data", *places, "--input_size", "32"])
    path = str(tmp_path / "run")
    run_folder.create(path, options, ("glass", "paper"), False)
    data = read_all(tuple(places))
    write_trained_on(path, data.samples.select(np.arange(len(data.samples.file_names) - 4)),
                     np.arange(8, dtype=np.uint64))
    run = run_folder.read(path, weights=None)
    paths, images = reference_images.validation(run, [])
    left = {os.path.join(data.samples.folder, name): class_id for name, class_id in
            zip(data.samples.file_names[-4:], data.samples.class_ids[-4:])}
    assert set(paths) == set(left) and len(images) == 4
    assert reference_images.labels(run, paths).tolist() == [left[path] for path in paths]
