"""What a run leaves on disk: whole or not at all, found again, and gone on from."""

import json
import os
import shutil

import keras
import numpy as np
import pytest

import checkpoint
import options
import run_folder
from errors import InputError

LABELS = ("red", "grün", "blue")


def chosen(**changed):
    """The options of a training, as they are when they are stored."""
    return options.parse("train", [])._replace(
        **{"input_size": 64, "learning_rate": 5e-4, "warmup_epochs": 1.5, "run": "first", **changed}
    )


def make(save_dir, name, **changed):
    path = os.path.join(save_dir, name)
    run_folder.create(path, chosen(**changed), LABELS, False)
    return path


# --- whole or not at all --------------------------------------------------------------


def test_replacing_puts_a_finished_file_in_place(tmp_path):
    path = tmp_path / "best.weights.h5"
    for content in ("one", "two"):
        with run_folder.replacing(str(path)) as partial:
            assert partial != str(path) and partial.endswith(".weights.h5")
            assert os.path.dirname(partial) == str(tmp_path)  # renaming works there only
            with open(partial, "w") as file:
                file.write(content)
            assert not path.exists() or path.read_text() == "one"
        assert path.read_text() == content
    assert os.listdir(tmp_path) == ["best.weights.h5"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_replacing_leaves_the_old_file_when_writing_fails(tmp_path, error):
    path = tmp_path / "metrics.json"
    path.write_text("old")
    with pytest.raises(error), run_folder.replacing(str(path)) as partial:
        with open(partial, "w") as file:
            file.write("half of the n")
        raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["metrics.json"]


def test_replacing_makes_no_file_when_writing_fails(tmp_path):
    with pytest.raises(ValueError), run_folder.replacing(str(tmp_path / "new")) as partial:
        with open(partial, "w") as file:
            file.write("half")
        raise ValueError
    with pytest.raises(ValueError), run_folder.replacing(str(tmp_path / "new")):
        raise ValueError  # before anything was written
    assert os.listdir(tmp_path) == []


def test_the_new_file_is_on_the_disk_before_it_is_renamed(tmp_path, monkeypatch):
    done = []
    flush, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (done.append("flush"), flush(number)))
    monkeypatch.setattr(os, "replace", lambda *two: (done.append("rename"), replace(*two)))
    run_folder.write_text(str(tmp_path / "new"), "text")
    assert done == ["flush", "rename", "flush"]


def test_write_text_is_utf_8_with_plain_line_ends(tmp_path):
    run_folder.write_text(str(tmp_path / "new"), "grün\nblau\n")
    assert (tmp_path / "new").read_bytes() == "grün\nblau\n".encode()


def test_replace_folder(tmp_path):
    partial, path = tmp_path / "model.partial", tmp_path / "model"
    for content in ("one", "two"):
        partial.mkdir()
        (partial / content).write_text(content)
        run_folder.replace_folder(str(partial), str(path))
        assert os.listdir(tmp_path) == ["model"]
        assert os.listdir(path) == [content]


def test_replace_folder_after_a_replacement_that_was_cut_off(tmp_path):
    for name in ("model.partial", "model.old"):  # between the two renames the power went
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    run_folder.replace_folder(str(tmp_path / "model.partial"), str(tmp_path / "model"))
    assert os.listdir(tmp_path) == ["model"]
    assert (tmp_path / "model" / "file").read_text() == "model.partial"


# --- making and reading ---------------------------------------------------------------


def test_a_run_comes_back_as_it_was_made(tmp_path):
    given = chosen(fill_color=(1, 2, 3), resize="crop", horizontal_flip=False, seed=7, shift=0.0,
                   train_data="/photos of 2024/grün", weights="none", val_data=None)
    path = str(tmp_path / "runs" / "first")
    run_folder.create(path, given, LABELS, False)
    assert sorted(os.listdir(path)) == ["label.json", "options.yaml"]
    found = run_folder.read(path, weights=None)
    assert (found.path, found.labels) == (path, LABELS)
    aside = dict.fromkeys(("given", "config", "debug", "json", "overwrite", "resume"))
    assert found.options._replace(**aside) == given._replace(**aside)
    assert found.preprocessing[:3] == (64, "crop", (1, 2, 3))
    assert found.file("check", "a.png") == os.path.join(path, "check", "a.png")


def test_what_belongs_to_one_command_is_not_stored(tmp_path):
    path = make(tmp_path, "first", json=True, debug=True, overwrite=True, config="x", resume="y")
    found = run_folder.read(path, weights=None).options
    assert (found.json, found.debug, found.overwrite) == (False, False, False)
    assert (found.config, found.resume) == (None, None)


def test_a_run_that_exists_is_not_made_again(tmp_path):
    path = make(tmp_path, "first")
    before = {name: open(os.path.join(path, name)).read() for name in os.listdir(path)}
    with pytest.raises(InputError, match="first exists"):
        run_folder.check_new(str(tmp_path), "first", False)
    with pytest.raises(InputError, match="first exists"):
        run_folder.create(path, chosen(seed=5), LABELS, False)
    assert {name: open(os.path.join(path, name)).read() for name in os.listdir(path)} == before


def test_overwrite_leaves_nothing_of_the_old_run(tmp_path):
    path = make(tmp_path, "first")
    os.makedirs(os.path.join(path, "model"))
    assert run_folder.check_new(str(tmp_path), "first", True) == path
    run_folder.create(path, chosen(seed=5), LABELS, True)
    assert sorted(os.listdir(path)) == ["label.json", "options.yaml"]
    assert run_folder.read(path, weights=None).options.seed == 5


def test_overwrite_leaves_a_folder_that_is_no_run(tmp_path):
    path = tmp_path / "photos"
    path.mkdir()
    (path / "precious.jpg").write_text("x")
    with pytest.raises(InputError, match="photos is not a run"):
        run_folder.create(str(path), chosen(), LABELS, True)
    assert os.listdir(path) == ["precious.jpg"]


def test_overwrite_takes_an_empty_or_a_new_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "new"):
        run_folder.create(str(tmp_path / name), chosen(), LABELS, True)
        assert run_folder.read(str(tmp_path / name), weights=None).labels == LABELS


def test_overwrite_does_not_follow_a_link(tmp_path):
    target = make(tmp_path, "first")
    os.symlink(target, tmp_path / "link")
    with pytest.raises(InputError, match="link"):
        run_folder.create(str(tmp_path / "link"), chosen(), LABELS, True)
    assert os.path.exists(os.path.join(target, "options.yaml"))


# --- finding --------------------------------------------------------------------------


def test_find_by_name_and_by_path(tmp_path, monkeypatch):
    save_dir = str(tmp_path / "runs")
    path = make(save_dir, "first")
    model = os.path.join(path, "model")
    os.mkdir(model)
    with open(os.path.join(model, "model.json"), "w") as file:
        file.write("{}")
    assert run_folder.find("first", save_dir) == path
    assert run_folder.find(path, str(tmp_path / "elsewhere")) == path
    assert run_folder.find(path + "/", save_dir) == path
    assert run_folder.find(model, save_dir) == model
    assert run_folder.find("first/model", save_dir) == model
    monkeypatch.chdir(save_dir)
    assert run_folder.find("first", "elsewhere") == "first"
    assert run_folder.is_exported(model) and not run_folder.is_exported(path)


def test_find_names_the_nearest_run(tmp_path):
    save_dir = str(tmp_path / "runs")
    with pytest.raises(InputError, match="'first'.*no runs yet"):
        run_folder.find("first", save_dir)
    for name in ("first", "zebra"):
        make(save_dir, name)
    os.mkdir(os.path.join(save_dir, "fist"))  # no run
    with pytest.raises(InputError, match="'fist'.*did you mean first[?]"):
        run_folder.find("fist", save_dir)
    with pytest.raises(InputError, match="'quite other'.*runs there: first, zebra"):
        run_folder.find("quite other", save_dir)


# --- scores ---------------------------------------------------------------------------


def test_metrics_are_merged(tmp_path):
    path = str(tmp_path)
    assert run_folder.read_metrics(path) == {}
    run_folder.add_metrics(path, {"val_accuracy": 0.5, "epochs": 3})
    run_folder.add_metrics(path, {"test_accuracy": 0.25, "epochs": 4})
    with open(tmp_path / "metrics.json") as file:
        assert json.load(file) == {"val_accuracy": 0.5, "epochs": 4, "test_accuracy": 0.25}


@pytest.mark.parametrize("content", ["", "{", "[1]", "3", "null", "\udcff"])
def test_damaged_metrics_are_refused_and_kept(tmp_path, content):
    file = tmp_path / "metrics.json"
    file.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match="metrics.json"):
        run_folder.add_metrics(str(tmp_path), {"accuracy": 1.0})
    assert file.read_bytes() == content.encode(errors="surrogateescape")


# --- checkpoints ----------------------------------------------------------------------


def save(folder, model):
    checkpoint.save(folder, model, model.optimizer, STATE)


def load(folder, model):
    checkpoint.load(folder, model, model.optimizer)


def network(seed, units=3):
    """A compiled model with an optimizer that has stepped and a dropout that has drawn."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([
        keras.Input((4,)), keras.layers.Dense(units), keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.5), keras.layers.Dense(2),
    ])
    model.compile("adamw", "mse", run_eagerly=True)
    model.optimizer.build(model.trainable_variables)
    generator = np.random.default_rng(seed)
    for _ in range(seed):
        model.train_on_batch(generator.random((5, 4)), generator.random((5, 2)))
    return model


def variables(model):
    """Every value that the model's next step depends on, by path."""
    found = [*model.weights, *model.optimizer.variables]
    found += [layer.seed_generator.state for layer in model.layers
              if hasattr(layer, "seed_generator")]
    return [(each.path.split("/", 1)[-1], np.array(each)) for each in found]


def assert_equal(one, two):
    assert len(one) == len(two)
    for (_, a), (_, b) in zip(one, two):
        assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


STATE = {"history": [{"epoch": 1, "loss": 0.1}], "best_epoch": 1, "data": "grün", "seconds": 1 / 3}


def test_a_checkpoint_holds_every_variable(tmp_path):
    folder = str(tmp_path / "checkpoint")
    first, other = network(3), network(1)
    saved = variables(first)
    # Dense, BatchNorm, Dense: 8; AdamW: step, rate, and two for each of 6; one seed
    assert len(saved) == 8 + 2 + 12 + 1
    save(folder, first)
    assert os.listdir(folder) == ["last.npz"]
    assert checkpoint.read_state(folder) == STATE
    different = sum(
        a.tobytes() != b.tobytes() for (_, a), (_, b) in zip(saved, variables(other))
    )
    assert different >= 20  # all but the learning rate and untouched offsets
    load(folder, other)
    assert_equal(variables(other), saved)
    # and both go on alike
    batch = np.ones((5, 4)), np.zeros((5, 2))
    first.train_on_batch(*batch)
    other.train_on_batch(*batch)
    assert_equal(variables(other), variables(first))


def test_a_checkpoint_is_replaced_as_a_whole(tmp_path, monkeypatch):
    folder = str(tmp_path)
    first = network(2)
    save(folder, first)
    before = (tmp_path / "last.npz").read_bytes()

    def savez(file, **arrays):
        file.write(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", savez)
        with pytest.raises(KeyboardInterrupt):
            save(folder, network(3))
    assert os.listdir(folder) == ["last.npz"]
    assert (tmp_path / "last.npz").read_bytes() == before


def test_no_checkpoint_is_refused(tmp_path):
    for read in (checkpoint.read_state, lambda folder: load(folder, network(0))):
        with pytest.raises(InputError, match="last.npz: is missing"):
            read(str(tmp_path))


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    folder, other = str(tmp_path), network(2, units=5)
    save(folder, network(2))
    before = variables(other)
    with pytest.raises(InputError, match="last.npz: belongs to another model"):
        load(folder, other)
    more = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    more.compile("adamw", "mse")
    with pytest.raises(InputError, match="belongs to another model"):
        load(folder, more)
    assert_equal(variables(other), before)


def read_both(folder, model):
    checkpoint.read_state(folder)
    load(folder, model)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_cut_off_checkpoint_is_refused(tmp_path, share):
    model = network(1)
    save(str(tmp_path), model)
    file = tmp_path / "last.npz"
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match="last.npz: is damaged"):
        read_both(str(tmp_path), model)


def test_a_changed_byte_is_noticed(tmp_path):
    """Wherever it stands: refused, or without any effect (a date in the archive, say)."""
    model = network(1)
    save(str(tmp_path / "good"), model)
    saved = variables(model)
    content = (tmp_path / "good" / "last.npz").read_bytes()
    (tmp_path / "bad").mkdir()
    refused = 0
    middle, table = len(content) // 2, content.index(b"PK\x01\x02")
    places = {*range(0, len(content), 37), *range(middle, middle + 40)}
    places |= {*range(table, table + 60), *range(len(content) - 30, len(content))}  # of contents
    for place in sorted(places):
        for mask in (0x01, 0x40):
            damaged = bytearray(content)
            damaged[place] ^= mask
            (tmp_path / "bad" / "last.npz").write_bytes(damaged)
            try:
                read_both(str(tmp_path / "bad"), model)
            except InputError as error:
                assert "last.npz" in str(error)
                refused += 1
                load(str(tmp_path / "good"), model)
            except Exception as error:
                pytest.fail(f"byte {place} ^ {mask}: {type(error).__name__}: {error}")
            else:
                assert_equal(variables(model), saved)
                assert checkpoint.read_state(str(tmp_path / "bad")) == STATE
    assert refused > len(places)  # of two tries each


def test_a_checkpoint_runs_nothing(tmp_path):
    """Pickled objects in it are refused, not run."""
    file = tmp_path / "last.npz"
    np.savez(file, state=np.array([shutil.rmtree], dtype=object))
    with pytest.raises(InputError, match="is damaged"):
        checkpoint.read_state(str(tmp_path))
