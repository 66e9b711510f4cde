"""What a run leaves on disk: whole or not at all, found again, and gone on from."""

import csv
import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys

import filelock
import keras
import numpy as np
import pytest
from conftest import ROOT

from common.errors import DivergedError, InputError
from common.files import check_building, replace_folder, replacing, write_text
from config import parser
from data.samples import Samples
from runs import checkpoint, run_folder
from runs.margin_files import read_margins, write_margins, write_trained_on
from runs.results import COLUMNS, best_epoch, read_results, results_are, write_results
from runs.training_state import TrainingState
from training.patience import Patience

LABELS = ("red", "grün", "blue")


def chosen(**changed):
    """The options of a training, as they are when they are stored."""
    return parser.parse("train", [])._replace(
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
        with replacing(str(path)) as partial:
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
    with pytest.raises(error), replacing(str(path)) as partial:
        with open(partial, "w") as file:
            file.write("half of the n")
        raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["metrics.json"]


def test_replacing_makes_no_file_when_writing_fails(tmp_path):
    with pytest.raises(ValueError), replacing(str(tmp_path / "new")) as partial:
        with open(partial, "w") as file:
            file.write("half")
        raise ValueError
    with pytest.raises(ValueError), replacing(str(tmp_path / "new")):
        raise ValueError  # before anything was written
    assert os.listdir(tmp_path) == []


def test_the_new_file_is_on_the_disk_before_it_is_renamed(tmp_path, monkeypatch):
    done = []
    flush, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (done.append("flush"), flush(number)))
    monkeypatch.setattr(os, "replace", lambda *two: (done.append("rename"), replace(*two)))
    write_text(str(tmp_path / "new"), "text")
    assert done == ["flush", "rename", "flush"]


def test_write_text_is_utf_8_with_plain_line_ends(tmp_path):
    write_text(str(tmp_path / "new"), "grün\nblau\n")
    assert (tmp_path / "new").read_bytes() == "grün\nblau\n".encode()


def test_replace_folder(tmp_path):
    partial, path = tmp_path / "model.partial", tmp_path / "model"
    for content in ("one", "two"):
        partial.mkdir()
        (partial / content).write_text(content)
        replace_folder(str(partial), str(path))
        assert os.listdir(tmp_path) == ["model"]
        assert os.listdir(path) == [content]


def test_replace_folder_after_a_replacement_that_was_cut_off(tmp_path):
    for name in ("model.partial", "model.old"):  # between the two renames the power went
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    replace_folder(str(tmp_path / "model.partial"), str(tmp_path / "model"))
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
    assert (found.path, found.class_names) == (path, LABELS)
    aside = dict.fromkeys(("given", "config", "debug", "json", "overwrite", "resume"))
    assert found.options._replace(**aside) == given._replace(**aside)
    assert found.preprocessing[:3] == (64, "crop", (1, 2, 3))
    assert found.file("check", "a.png") == os.path.join(path, "check", "a.png")


def test_what_belongs_to_one_command_is_not_stored(tmp_path):
    path = make(tmp_path, "first", json=True, debug=True, overwrite=True, config="x", resume="y")
    found = run_folder.read(path, weights=None).options
    assert (found.json, found.debug, found.overwrite) == (False, False, False)
    assert (found.config, found.resume) == (None, None)


def test_a_run_with_the_longest_name_a_file_system_takes(tmp_path):
    path = make(tmp_path, "n" * 255)
    assert os.listdir(tmp_path) == ["n" * 255]
    assert run_folder.read(path, weights=None).class_names == LABELS


def test_a_run_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--save_dir: .*file/first cannot be written: Not a dir"):
        make(tmp_path / "file", "first")


def test_a_folder_to_make_must_not_hold_anything(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    (tmp_path / "dead").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    for name in ("new", "empty"):
        check_building(str(tmp_path / name))
    for name in ("link", "dead", "file", "full"):
        with pytest.raises(InputError, match=f"--target: .*{name} exists"):
            check_building(str(tmp_path / name))


def test_margins_come_back_with_their_epochs(tmp_path):
    """Epochs that have left none are NaN; what was not finished does not count."""
    samples = Samples(str(tmp_path), ["a.png", "b ü.png"], np.array([2, 0], np.int32))
    write_trained_on(str(tmp_path), samples)
    for epoch, row in ((0, [0.5, -1.0]), (2, [1.5, np.nan])):
        write_margins(str(tmp_path), epoch, np.array(row, np.float16))
    folder = tmp_path / "margins"
    assert sorted(os.listdir(folder)) == ["00001.npy", "00003.npy", "images.csv"]
    (folder / ".partial-00004.npy").write_bytes(b"half")
    images, margins = read_margins(str(tmp_path))
    place = os.path.realpath(tmp_path)
    assert images == {f"{place}/a.png": (0, 2), f"{place}/b ü.png": (1, 0)}
    np.testing.assert_array_equal(
        margins, np.array([[0.5, -1.0], [np.nan, np.nan], [1.5, np.nan]], np.float32)
    )
    assert read_margins(str(tmp_path / "nowhere"))[1].shape == (0, 0)


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
        assert run_folder.read(str(tmp_path / name), weights=None).class_names == LABELS


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


def test_find_the_last_run_and_one_by_its_beginning(tmp_path, capsys):
    save_dir = str(tmp_path / "runs")
    with pytest.raises(InputError, match="'last' is neither .* there are no runs yet"):
        run_folder.find("last", save_dir)
    for number, name in enumerate(("waste-2", "waste-1", "leaves")):
        os.makedirs(tmp_path / "runs" / name)
        path = tmp_path / "runs" / name / run_folder.OPTIONS
        path.write_text("")
        os.utime(path, ns=(0, 10**18 * (2 - number)))
        if name != "waste-2":
            (tmp_path / "runs" / name / run_folder.BEST).write_bytes(b"")
    os.makedirs(tmp_path / "runs" / "zzz")  # no run
    # The newest is in its first epoch and can only be resumed.
    assert run_folder.find("last", save_dir, "--resume") == os.path.join(save_dir, "waste-2")
    assert run_folder.find("last", save_dir) == os.path.join(save_dir, "waste-1")
    (tmp_path / "runs" / "waste-2" / run_folder.BEST).write_bytes(b"")
    capsys.readouterr()
    assert run_folder.find("last", save_dir) == os.path.join(save_dir, "waste-2")
    assert capsys.readouterr().err == "--run last is waste-2\n"
    assert run_folder.find("lea", save_dir, "--resume") == os.path.join(save_dir, "leaves")
    assert capsys.readouterr().err == "--resume lea is leaves\n"
    with pytest.raises(InputError, match="'waste' is the beginning of 2 runs.*waste-1, waste-2"):
        run_folder.find("waste", save_dir)
    assert run_folder.find("waste-1", save_dir) == os.path.join(save_dir, "waste-1")
    assert capsys.readouterr().err == ""
    with pytest.raises(InputError, match="is neither"):
        run_folder.find("", save_dir)


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


METRICS = {"loss/total": np.float32(0.25), "a count": np.arange(3, dtype=np.int32)}


def save(folder, model, epochs=1, steps=0):
    return checkpoint.save(folder, epochs, steps, model, model.optimizer, METRICS, STATE)


def newest(folder):
    """The newest whole checkpoint and what was said of others."""
    said = []
    return checkpoint.newest(str(folder), said.append), said


def load(folder, model):
    return checkpoint.load(newest(folder)[0].path, model, model.optimizer)


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


STATE = TrainingState(
    data="grün", history=[{"epoch": 1, "loss": 0.1}], best_number=1, seconds=1 / 3,
    undecodable=[[[4, "a.jpg", "is broken", "truncated"]], []],
)


def test_a_checkpoint_holds_every_variable(tmp_path):
    folder = str(tmp_path / "checkpoint")
    first, other = network(3), network(1)
    saved = variables(first)
    # Dense, BatchNorm, Dense: 8; AdamW: step, rate, and two for each of 6; one seed
    assert len(saved) == 8 + 2 + 12 + 1
    save(folder, first, 4, 17)
    assert os.listdir(folder) == ["00004-0000017.npz"]
    found, said = newest(folder)
    assert (found.epochs, found.steps, found.state, said) == (4, 17, STATE, [])
    different = sum(
        a.tobytes() != b.tobytes() for (_, a), (_, b) in zip(saved, variables(other))
    )
    assert different >= 20  # all but the learning rate and untouched offsets
    metrics = load(folder, other)
    assert metrics.keys() == METRICS.keys()
    for name, value in METRICS.items():
        assert metrics[name].dtype == value.dtype and np.array_equal(metrics[name], value)
    assert_equal(variables(other), saved)
    # and both go on alike
    batch = np.ones((5, 4)), np.zeros((5, 2))
    first.train_on_batch(*batch)
    other.train_on_batch(*batch)
    assert_equal(variables(other), variables(first))


def test_the_last_two_checkpoints_are_kept(tmp_path):
    model = network(1)
    for epochs, steps in ((0, 0), (0, 9), (0, 10), (1, 0), (99999, 1), (100000, 0)):
        save(tmp_path, model, epochs, steps)
        names = sorted(os.listdir(tmp_path))
        found = newest(tmp_path)[0]
        assert (found.epochs, found.steps) == (epochs, steps) and len(names) <= 2
    assert names == ["100000-0000000.npz", "99999-0000001.npz"]


def test_a_checkpoint_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    save(tmp_path, network(2))
    before = (tmp_path / "00001-0000000.npz").read_bytes()

    def savez(file, **arrays):
        file.write(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", savez)
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, network(3), 2)
    assert os.listdir(tmp_path) == ["00001-0000000.npz"]
    assert (tmp_path / "00001-0000000.npz").read_bytes() == before


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_not_saved(tmp_path, value):
    model = network(1)
    save(tmp_path, model)
    for variable in (model.layers[0].kernel, model.optimizer.variables[-1]):
        before = np.array(variable)
        variable.assign(np.full(variable.shape, value))
        with pytest.raises(DivergedError, match="became NaN or infinite"):
            save(tmp_path, model, 2)
        variable.assign(before)
    assert os.listdir(tmp_path) == ["00001-0000000.npz"]


def test_no_checkpoint(tmp_path):
    assert newest(tmp_path) == newest(tmp_path / "nowhere") == (None, [])
    (tmp_path / "00001-0000000.npz.partial").write_bytes(b"")
    (tmp_path / "last.npz").write_bytes(b"")
    assert newest(tmp_path) == (None, [])


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    other = network(2, units=5)
    save(tmp_path, network(2))
    before = variables(other)
    with pytest.raises(InputError, match="00001-0000000.npz: belongs to another model"):
        load(tmp_path, other)
    more = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    more.compile("adamw", "mse")
    with pytest.raises(InputError, match="belongs to another model"):
        load(tmp_path, more)
    assert_equal(variables(other), before)


def assert_noticed(place, content):
    """`content` in place of the newest checkpoint: named, and the one before taken."""
    (place / "00002-0000000.npz").write_bytes(content)
    found, said = newest(place)
    assert found.path == str(place / "00001-0000000.npz")
    assert len(said) == 1 and "00002-0000000.npz: is damaged: its checksum" in said[0]


def two_checkpoints(place):
    """Leaves two checkpoints; the content of the newer."""
    model = network(1, units=1000)
    save(place, model, 1)
    save(place, model, 2)
    content = (place / "00002-0000000.npz").read_bytes()
    assert len(content) > 20 * 4096
    return content


def test_a_checkpoint_cut_at_every_block(tmp_path):
    content = two_checkpoints(tmp_path)
    for length in (0, 1, 31, 32, *range(4096, len(content), 4096), len(content) - 1):
        assert_noticed(tmp_path, content[:length])
    assert_noticed(tmp_path, content + b"\0")


def test_one_byte_of_a_checkpoint_flipped(tmp_path):
    content = two_checkpoints(tmp_path)
    places = np.random.default_rng(0).integers(0, len(content), 200)
    for place in (0, len(content) - 1, len(content) - 32, len(content) - 33, *places):
        damaged = bytearray(content)
        damaged[place] ^= 0x10
        assert_noticed(tmp_path, damaged)


def test_all_checkpoints_damaged(tmp_path):
    model = network(1)
    for epochs in (1, 2):
        save(tmp_path, model, epochs)
        (tmp_path / f"0000{epochs}-0000000.npz").write_bytes(b"nothing")
    said = "00002-0000000.npz: is damaged.*no other checkpoint is left"
    with pytest.raises(InputError, match=said):
        newest(tmp_path)


def test_a_checkpoint_runs_nothing(tmp_path):
    """Pickled objects in it are refused, not run, with a checksum that is right, too."""
    file = tmp_path / "00001-0000000.npz"
    np.savez(file, state=np.array([shutil.rmtree], dtype=object))
    file.write_bytes(file.read_bytes() + hashlib.sha256(file.read_bytes()).digest())
    with pytest.raises(InputError, match="is damaged: Object arrays cannot be loaded"):
        newest(tmp_path)


# --- one training a run ---------------------------------------------------------------


def test_a_run_that_is_trained_is_left_alone(tmp_path, monkeypatch):
    """Even by processes that would replace it; the lock ends with its process."""
    path = make(tmp_path, "first")
    monkeypatch.setattr(run_folder, "LOCK_SECONDS", 0.1)
    holder = subprocess.Popen(
        [sys.executable, "-c",
         f"from runs import run_folder; import time\nwith run_folder.locked({path!r}):\n"
         "    print('locked', flush=True); time.sleep(60)"],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )
    try:
        assert holder.stdout.readline() == "locked\n"
        for refused in (
            lambda: run_folder.locked(path).__enter__(), lambda: run_folder.check_idle(path),
            lambda: run_folder.check_new(str(tmp_path), "first", True),
            lambda: run_folder.create(path, chosen(), LABELS, True),
        ):
            with pytest.raises(InputError, match="first: another process trains this run"):
                refused()
    finally:
        holder.kill()
        holder.communicate()
    run_folder.check_idle(path)
    with run_folder.locked(path):
        pass


def test_a_file_system_without_locks_is_no_hindrance(tmp_path, monkeypatch):
    path = make(tmp_path, "first")

    def lock_descriptor(descriptor, blocking):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(filelock, "lock_descriptor", lock_descriptor)
    with run_folder.locked(path):
        run_folder.check_idle(path)


def test_a_run_that_cannot_be_opened(tmp_path):
    path = make(tmp_path, "first")
    os.mkdir(os.path.join(path, ".lock"))
    with pytest.raises(InputError, match="first: cannot be opened: Is a directory"):
        run_folder.locked(path).__enter__()
    run_folder.check_idle(path)  # nobody trains it


def test_looking_disturbs_nobody(tmp_path):
    """Neither those who look at the same time, nor who begins to train just then."""
    path = make(tmp_path, "first")
    run_folder.check_idle(path)
    assert not os.path.exists(os.path.join(path, ".lock"))  # looking writes nothing
    with run_folder.locked(path):
        pass
    look = (f"from runs import run_folder\nfor _ in range(1000):\n"
            f"    run_folder.check_idle({path!r})\n")
    lookers = [subprocess.Popen([sys.executable, "-c", look], cwd=ROOT) for _ in range(2)]
    while None in [looker.poll() for looker in lookers]:
        with run_folder.locked(path):
            pass
    assert [looker.returncode for looker in lookers] == [0, 0]


def test_nothing_that_is_read_is_locked(tmp_path):
    """Windows lets nobody else read a file that is locked."""
    path = make(tmp_path, "first")
    with run_folder.locked(path):
        for name in os.listdir(path):
            with open(os.path.join(path, name), "r+b") as file:
                assert filelock.lock_descriptor(file.fileno(), blocking=False) == (name != ".lock")
                assert name == ".lock" or file.read()


# --- state and results ----------------------------------------------------------------


def test_a_state_has_the_keys_that_checkpoints_have():
    assert STATE.to_json() == {
        "data": "grün", "history": [{"epoch": 1, "loss": 0.1}], "best_epoch": 1,
        "seconds": 1 / 3, "halvings": 0, "bad": [[[4, "a.jpg", "is broken", "truncated"]], []],
    }


def test_a_state_without_later_attributes_has_their_defaults():
    state = TrainingState.from_json({"data": "x", "history": [], "best_epoch": 0, "seconds": 2.0})
    assert state == TrainingState("x", [], 0, 2.0, 0, [])


@pytest.mark.parametrize("accuracies, losses, best, waited", [
    ([0.5, 0.7, 0.6], [1, 1, 1], 2, 1), ([0.5, 0.5], [1.0, 0.9], 2, 0), ([0.5, 0.5], [1, 1], 1, 1),
])
def test_epochs_are_ranked(accuracies, losses, best, waited):
    state = TrainingState()
    for accuracy, loss in zip(accuracies, losses):
        state.add_epoch({"val_accuracy": accuracy, "val_loss": loss})
    assert state.best_number == best == best_epoch(state.history) + 1
    assert state.epochs_without_improvement() == waited
    assert state.epochs_without_improvement(len(losses)) == 0


@pytest.mark.parametrize("epochs, unfreeze_epoch, exhausted", [
    (0, 0, False), (1, 0, True), (2, 0, True), (3, 0, False), (2, 2, False), (1, 2, True),
])
def test_patience_counts_from_the_best_epoch(epochs, unfreeze_epoch, exhausted):
    state = TrainingState(history=[{}, {}, {}], best_number=1)
    assert Patience(epochs, unfreeze_epoch).is_exhausted(state) is exhausted


def test_results_come_back_as_they_were_written(tmp_path):
    rows = [dict(zip(COLUMNS, (number, 1.5, 0.25, 1 / 3, 0.5, 1e-3))) for number in (1, 2)]
    write_results(str(tmp_path), rows)
    assert read_results(str(tmp_path)) == rows and results_are(str(tmp_path), rows)
    assert not results_are(str(tmp_path), rows[:1])
    with open(tmp_path / "results.csv", newline="") as text:
        assert list(csv.reader(text))[1] == ["1", "1.5", "0.25", str(1 / 3), "0.5", "0.001"]
