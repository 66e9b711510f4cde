"""Options that no test of their mode's own gives to it: each changes what it is said to change.

Training goes as far as its first batch here, on a network with few blocks. Modes that ask a
model get one whose answers can be worked out by hand: which half of a picture is brighter.
"""

import contextlib
import csv
import json
import math
import os
import re
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import cv2
import keras
import numpy as np
import pytest
import requests
import yaml
from conftest import write_samples
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from test_fine_tuning import PLAIN
from test_main_job import FEW_BLOCKS, WORSE, done, go
from test_server import PNG, Process, encoded, picture, write_model

import efficientnet.model as network
import run
import save_model
import train
from common.errors import InputError
from config.modes import MODES
from config.parser import parse
from data.geometry import Preprocessing
from data.label_names import read_label_names, write_label_names
from data.packing import pack
from data.samples import Samples, write_sample
from deployment import server
from evaluation.runtime_speed import measure
from modeling import weight_download
from other import (
    add_class,
    benchmark,
    calibrate,
    crossval,
    demo,
    demo_data,
    doctor,
    drift,
    embed,
    pipeline,
    preview,
    similar,
    tune,
)
from other import label as label_mode
from other.folds.plan import Plan
from other.folds.runs import OutOfFold
from other.reporting import report_gallery
from other.tuning.space import Space
from prediction import classifier
from prediction.classifier import Classifier
from prediction.runtimes import Answers
from runs import run_folder
from training import setup
from training.run_recorder import RunRecorder

S = 40  # side of the pictures and of the input, in pixels
RED, GREEN, BLUE, YELLOW = (200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30)
QUARTERS = np.uint8([[RED, GREEN], [BLUE, YELLOW]]).repeat(S // 2, 0).repeat(S // 2, 1)
WIDE = np.uint8([[RED, GREEN, GREEN, BLUE]]).repeat(S, 0).repeat(S // 2, 1)  # twice as wide as high
# A round hill of light: turning and mirroring leave it as it is
RADIUS = np.hypot(*np.mgrid[0.5 - S / 2 : S / 2, 0.5 - S / 2 : S / 2])
HILL = np.uint8(20 + 200 * np.exp(-((RADIUS / 10) ** 2)))[..., None].repeat(3, 2)


def write_pictures(folder, *pictures, each=8):
    """Samples of two classes, the pictures taking turns; returns the folder's path."""
    os.makedirs(folder)
    for number in range(each * len(pictures)):
        label = number % len(pictures)
        cv2.imwrite(str(folder / f"{number:02}.png"), pictures[label][..., ::-1])
        write_sample(folder, f"{number:02}.png", label)
    write_label_names(folder, ["first", "second"])
    return folder


# --- what training and preview show the model -----------------------------------------


@pytest.fixture
def shown(tmp_path, monkeypatch, capsys):
    """Runs train or preview up to the first batch; tells what is there then."""
    found = SimpleNamespace()

    def fit(model, training, **settings):
        x, y, _ = (np.asarray(part) for part in next(iter(training)))
        names = read_label_names(tmp_path / "runs" / "run" / "label.json")
        vars(found).update(model=model, x=x, labels=y.argmax(1), shares=y.max(1), names=names,
                           callbacks=settings["callbacks"])
        raise KeyboardInterrupt

    def draw_grid(images, captions, names):
        labels, shares = zip(*(caption[0] for caption in captions))
        vars(found).update(x=images, labels=np.array(labels), shares=shares, names=names)
        return Image.new("RGB", (1, 1))

    monkeypatch.setattr(network, "STAGES", FEW_BLOCKS)
    monkeypatch.setattr(keras.Model, "fit", fit)
    monkeypatch.setattr(preview, "draw_grid", draw_grid)
    pictures = QUARTERS, HILL
    data, val = (write_pictures(tmp_path / name, *pictures) for name in ("data", "val"))
    own = {
        "train": ["--val_data", val, "--weights", "none", "--run", "run", "--overwrite",
                  "--save_dir", tmp_path / "runs", "--log_dir", tmp_path / "logs"],
        "preview": ["--target", tmp_path / "preview.png"],
    }

    def shown(mode, *words):
        result = go("--mode", mode, "--train_data", data, "--input_size", S, *own[mode], *words)
        assert result.status == {"train": 130, "preview": 0}[mode], result.err
        found.err = result.err
        return found

    return shown


def near(x, expected):
    """Whether each picture is the expected one, but for what interpolation does; bool (N,)."""
    return np.abs(x.astype(int) - expected).max(axis=(1, 2, 3)) <= 6


def are(x, *expected):
    """Whether every picture is one of the expected ones, and each of those is there."""
    same = np.array([(x == each).all(axis=(1, 2, 3)) for each in expected])
    return same.any(0).all() and same.any(1).all()


def moved(quarters, hills):
    """Up to 8 pixels: the outermost 11 of each quarter keep their colour."""
    edges = np.r_[0:11, S - 11 : S]
    kept = near(quarters[:, edges][:, :, edges], QUARTERS[edges][:, edges]).all()
    return kept and not near(quarters, QUARTERS).all() and not near(hills, HILL).all()


def zoomed(quarters, hills):
    """About the centre, where the quarters meet."""
    rest = np.r_[0 : S // 2 - 2, S // 2 + 2 : S]
    kept = near(quarters[:, rest][:, :, rest], QUARTERS[rest][:, rest]).all()
    return kept and not near(hills, HILL).all()


def erased(quarters, hills):
    """A rectangle of 2 to 40 % (Zhong et al. 2017, section 4), rounded to pixels."""
    for changed in (*(quarters != QUARTERS).any(3), *(hills != HILL).any(3)):
        box = changed.any(1).sum() * changed.any(0).sum()
        if not (0.01 < box / S**2 < 0.45 and changed.sum() > 0.98 * box):
            return False
    return True


def other(quarters, hills):
    return not near(quarters, QUARTERS).all() and not near(hills, HILL).all()


@pytest.mark.parametrize("mode", ["train", "preview"])
@pytest.mark.parametrize("words, hold", [
    (("--mixup", 0), lambda quarters, hills: are(quarters, QUARTERS) and are(hills, HILL)),
    (("--horizontal_flip", "yes"),
     lambda quarters, hills: are(quarters, QUARTERS, QUARTERS[:, ::-1]) and are(hills, HILL)),
    (("--vertical_flip", "yes"),
     lambda quarters, hills: are(quarters, QUARTERS, QUARTERS[::-1]) and are(hills, HILL)),
    (("--rotation", 45),
     lambda quarters, hills: not near(quarters, QUARTERS).all() and near(hills, HILL).all()),
    (("--shift", 0.2), moved),
    (("--zoom", 0.5), zoomed),
    (("--random_eraser", 1), erased),
    (("--randaugment", 1), other),
    (("--augmix", 1), other),
])
def test_augmentation(shown, mode, words, hold):
    found = shown(mode, *PLAIN, *words)
    assert hold(found.x[found.labels == 0], found.x[found.labels == 1])


@pytest.mark.parametrize("mode", ["train", "preview"])
def test_an_image_becomes_square(shown, mode, tmp_path):
    data = write_pictures(tmp_path / "wide", WIDE, WIDE)
    color = np.full((S // 4, S, 3), (1, 2, 3))
    whole = WIDE[:, ::2]
    for words, expected in (
        (("--resize", "letterbox", "--fill_color", "1,2,3"), [color, whole[: S // 2], color]),
        (("--resize", "crop"), [WIDE[:, S // 2 : -S // 2]]),
        (("--resize", "stretch"), [whole]),
    ):
        x = shown(mode, *PLAIN, "--train_data", data, *words).x
        assert near(x, np.concatenate(expected)).all()


@pytest.mark.parametrize("mode", ["train", "preview"])
def test_labels(shown, mode, tmp_path):
    (tmp_path / "names.json").write_text('{"0": "one", "1": "two", "2": "three"}')
    (tmp_path / "val" / "label.json").unlink()
    found = shown(mode, "--labels", tmp_path / "names.json", "--label_smoothing", 0.3)
    assert found.names == ("one", "two", "three")
    assert found.shares == pytest.approx([0.7 + 0.3 / 3] * 16)  # Szegedy et al. 2016, section 7


def test_seed(shown):
    one, two, other = (shown("train", *PLAIN, "--seed", seed).labels for seed in (1, 1, 2))
    assert (one == two).all() and (one != other).any() and sorted(one) == sorted(other)


def test_val_fraction(tmp_path):
    data = write_samples(tmp_path / "data", 40)
    held = [set(setup.prepare(parse("train", ["--train_data", data, "--val_fraction", share]))
                .validation.file_names) for share in ("0.1", "0.5")]
    assert held[0] < held[1] and 3 <= len(held[0]) < 30 and 40 < len(held[1]) < 80


# --- what training computes with ------------------------------------------------------


def test_weight_decay_makes_weights_smaller_by_itself(shown):
    """Without gradients only it acts: w (1 - rate * decay) (Loshchilov and Hutter 2019)."""
    model = shown("train", "--weight_decay", 0.5, "--learning_rate", 0.01, "--warmup_epochs", 0
                  ).model
    variables = model.trainable_variables
    before = [np.array(each) for each in variables]
    model.optimizer.apply([keras.ops.zeros_like(each) for each in variables])
    for each, old in zip(variables, before):
        factor = 1 - 0.01 * 0.5 if each.path.endswith("kernel") else 1
        np.testing.assert_allclose(np.array(each), old * factor, rtol=1e-5)


def test_focal_gamma(shown):
    loss = shown("train", "--loss", "focal", "--focal_gamma", 3).model.loss
    found = float(loss(np.float32([[1, 0]]), np.float32([[0.6, 0.4]])))
    assert found == pytest.approx(-(0.4**3) * math.log(0.6))  # Lin et al. 2017, equation 4


def test_scale_lr_jit_and_the_note_on_one_device(shown):
    found = shown("train", "--scale_lr", "linear", "--batch_size", 8, "--learning_rate", 0.01,
                  "--warmup_epochs", 0, "--jit", "on", "--multigpu", "no")
    assert float(found.model.optimizer.learning_rate) == pytest.approx(0.005)  # for 16 images
    assert found.model.jit_compile is True and "one device" not in found.err
    found = shown("train", "--jit", "off", "--multigpu", "yes")
    assert found.model.jit_compile is False
    assert re.search("^note: this machine has one device|^[0-9]+ devices: ", found.err, re.M)


def test_backbone(shown):
    model = shown("train", "--backbone", "MobileNet").model
    # The first is what Keras's page on MobileNet tells, less its head of 1000 classes.
    assert model.count_params() == 4_253_864 - 1_025_000 + 1025 * 2


def test_patience(shown):
    found = shown("train", "--patience", 2)
    (writer,) = (each for each in found.callbacks if isinstance(each, RunRecorder))
    writer.set_model(found.model)
    for epoch, (accuracy, loss) in enumerate(WORSE):  # the second is the best
        assert not found.model.stop_training
        writer.on_epoch_end(epoch, {"loss": 1.0, "accuracy": 0.5, "val_loss": loss,
                                    "val_accuracy": accuracy, "learning_rate": 0.1})
        if found.model.stop_training:
            break
    assert epoch == 3


# --- modes that ask a model -----------------------------------------------------------


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A run `runs/model`, and `data` of two classes: brighter on the left, or on the right.

    Gives the sizes of the batches that the model took, and where and how it was loaded.
    """
    monkeypatch.chdir(tmp_path)
    found = SimpleNamespace(sizes=[], loaded=[])

    def load(cls, path, *how):
        def predict(x):
            found.sizes.append(len(x))
            halves = np.stack([x[:, :, :16].mean((1, 2, 3)), x[:, :, 16:].mean((1, 2, 3))], 1)
            return Answers((halves / halves.sum(1, keepdims=True)).astype(np.float32))

        found.loaded.append((path, *how))
        return cls(("first", "second"), Preprocessing(32), predict)

    monkeypatch.setattr(Classifier, "_load", classmethod(load))
    monkeypatch.setattr(calibrate, "_find_centers", lambda *words: None)  # no network to ask
    monkeypatch.setattr(report_gallery, "heat_maps", lambda run, images, classes: np.zeros(
        (len(images), 3, 3), np.float32))
    half = np.zeros((32, 16, 3), np.uint8)
    left = np.concatenate([half + 60, half + 20], 1)
    write_pictures(tmp_path / "data", left, left[:, ::-1], each=5)
    words = ["--input_size", "32", "--weights", "none"]
    run_folder.create("runs/model", parse("train", words), ("first", "second"), False)
    (tmp_path / "runs/model" / run_folder.BEST).write_bytes(b"weights")
    (tmp_path / "runs/model" / run_folder.RESULTS).write_text(
        "epoch,loss,accuracy,val_loss,val_accuracy,learning_rate\n1,2.0,0.25,1.9,0.5,0.001\n")
    return found


@pytest.fixture
def pools(monkeypatch):
    """Pool -> the threads of it that had something to do; the first three wait for each other."""
    found, barriers, submit = {}, {}, ThreadPoolExecutor.submit

    def slowly(pool, function, *words, **more):
        threads = found.setdefault(pool, set())
        barrier = barriers.setdefault(pool, threading.Barrier(3))

        def task(*words, **more):
            if threading.get_ident() not in threads:
                threads.add(threading.get_ident())
                with contextlib.suppress(threading.BrokenBarrierError):
                    barrier.wait(3)
            return function(*words, **more)

        return submit(pool, task, *words, **more)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", slowly)
    return found


DATA = ("--data", "data")


@pytest.mark.parametrize("row", [
    ("eval", "--run", "model", *DATA),
    ("predict", "--run", "model", "--image", "data"),
    ("confusion_matrix", "--run", "model", *DATA, "--target", "out"),
    ("report", "--run", "model", *DATA, "--target", "report.html"),
    ("calibrate", "--run", "model", *DATA),
    ("compare", "--runs", "model", "model", *DATA),
])
def test_save_dir_batch_size_and_workers(place, pools, row):
    done("--mode", *row, "--save_dir", "runs", "--batch_size", 4, "--workers", 3)
    assert {path for path, *_ in place.loaded} == {os.path.join("runs", "model")}
    assert place.sizes == [4, 4, 2] * len(place.loaded)
    assert pools and {len(threads) for threads in pools.values()} == {3}


def test_test_time_augmentation(place):
    """Left and right are equally bright in a picture and its mirror image together."""
    def first(*words):
        return done("--mode", "predict", "--run", "runs/model", "--image", "data/00.png",
                    *words)[0]["predictions"][0]["probability"]

    assert first("--tta", "none") == pytest.approx(0.75)
    assert first("--tta", "flip") == pytest.approx(0.5)
    done("--mode", "eval", "--run", "runs/model", *DATA, "--tta", "flip", "--csv", "flip.csv")
    with open("flip.csv", newline="") as file:
        assert {float(row["probability"]) for row in csv.DictReader(file)} == {0.5}


def test_eval_on_all_devices(place):
    done("--mode", "eval", "--run", "runs/model", *DATA, "--multigpu", "yes")
    done("--mode", "eval", "--run", "runs/model", *DATA, "--multigpu", "no")
    assert [devices for _, devices, *_ in place.loaded] == ["all", None]


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_runtime(tmp_path, monkeypatch, runtime):
    opened, before = [], classifier.open_model

    def open_model(*words):
        opened.append(before(*words))
        return opened[-1]

    monkeypatch.setattr(classifier, "open_model", open_model)
    model, data = write_model(tmp_path / "model", ["first", "second", "c", "d"]), tmp_path / "data"
    write_label_names(write_pictures(data, QUARTERS, HILL), ["first", "second", "c", "d"])
    done("--mode", "eval", "--run", model, "--data", data, "--runtime", runtime)
    done("--mode", "predict", "--run", model, "--image", data, "--runtime", runtime)
    assert [computing for computing, _ in opened] == [(runtime, "float32")] * 2


def test_save_dir_of_export_and_relabel(place, monkeypatch, tmp_path):
    found = []
    result = {"model": "m", "difference": 0.0, "checked_images": 1, "formats": {}}
    monkeypatch.setattr(save_model, "export", lambda run, **more: found.append(run.path) or result)
    assert done("--mode", "export", "--run", "model", "--save_dir", "runs") == result
    assert found == [os.path.join("runs", "model")]
    (tmp_path / "table.csv").write_text("path,label,new_label\ndata/00.png,first,second\n")
    assert done("--mode", "relabel", "--run", "model", "--csv", "table.csv", "--save_dir", "runs"
                )["changed"] == 1
    assert (tmp_path / "data" / "00.txt").read_text() == "00.png, 1\n"


def test_workers_of_benchmark(tmp_path, monkeypatch):
    """Its measurements are processes of their own: what they are told."""
    tasks = []

    def apart(task):
        tasks.append(task)
        return {}, np.eye(4, dtype=np.float32)[[0] * len(task["names"])], {}

    monkeypatch.setattr(benchmark, "run_in_subprocess", apart)
    monkeypatch.setattr(benchmark, "add_accuracy", lambda *words: None)
    model = write_model(tmp_path / "model")
    go("--mode", "benchmark", "--model", model, "--workers", 3, "--target", tmp_path / "out")
    assert tasks and {task["workers"] for task in tasks} == {3}


# --- data tools -----------------------------------------------------------------------


def test_dir2txt(tmp_path, pools):
    for label, color in (("a", RED), ("b", BLUE)):
        (tmp_path / "source" / label).mkdir(parents=True)
        for number in range(40):  # no two are alike
            noise = np.random.default_rng((label == "a", number)).integers(0, 256, (6, 6, 3))
            image = cv2.resize(np.uint8(noise // 2 + np.array(color) // 2), (48, 48))
            cv2.imwrite(str(tmp_path / "source" / label / f"{number}.png"), image)
    words = ("--mode", "dir2txt", "--source", tmp_path / "source", "--target", tmp_path / "out",
             "--how", "move", "--split", "0.5,0.25,0.25", "--workers", 3)
    would = done(*words, "--dry_run")
    assert not (tmp_path / "out").exists() and len(os.listdir(tmp_path / "source" / "a")) == 40
    # A pool of few tasks starts fewer threads.
    assert max(len(threads) for threads in pools.values()) == 3
    assert done(*words) == would
    for part, count in (("train_datasets", 40), ("val_datasets", 20), ("test_datasets", 20)):
        images = list((tmp_path / "out" / part).glob("*.png"))
        assert would["parts"][part]["images"] == len(images)
        assert count - 10 < len(images) < count + 10  # a hash says which goes where
    assert not any(files for _, _, files in os.walk(tmp_path / "source"))


def test_txt2dir(place, tmp_path):
    (tmp_path / "names.json").write_text('{"0": "one", "1": "two"}')
    words = ("--mode", "txt2dir", "--source", "data", "--target", "out", "--labels", "names.json",
             "--how", "move")
    assert done(*words, "--dry_run")["classes"] == {"one": 5, "two": 5}
    assert not (tmp_path / "out").exists() and (tmp_path / "data" / "00.png").exists()
    done(*words)
    assert len(os.listdir(tmp_path / "out" / "two")) == 5
    assert os.listdir(tmp_path / "data") == ["label.json"]


@pytest.mark.parametrize("words, pixels, shares", [
    (("--resize", "letterbox", "--fill_color", "1,2,3"), S * S, (1 / 8, 1 / 4, 1 / 8, 1 / 2)),
    (("--resize", "crop"), S * S, (0, 1, 0, 0)),
    (("--resize", "stretch"), S * S, (1 / 4, 1 / 2, 1 / 4, 0)),
    (("--original",), 2 * S * S, (1 / 4, 1 / 2, 1 / 4, 0)),
])
def test_mean_std(tmp_path, pools, words, pixels, shares):
    data = write_pictures(tmp_path / "data", WIDE, each=60)
    found = done("--mode", "mean_std", "--source", data, "--target", tmp_path / "out.json",
                 "--input_size", S, "--workers", 3, *words)
    assert found["pixels"] == 60 * pixels
    expected = np.array(shares) @ np.array([RED, GREEN, BLUE, (1, 2, 3)])
    assert found["mean"] == pytest.approx(expected, abs=1.5)  # interpolation
    assert {len(threads) for threads in pools.values()} == {3}


def test_labels_and_workers_of_statistics_and_audit(place, pools, tmp_path):
    (tmp_path / "data" / "label.json").unlink()
    (tmp_path / "names.json").write_text('{"0": "one", "1": "two"}')
    found = done("--mode", "statistics", "--source", "data", "--labels", "names.json",
                 "--workers", 3, "--target", "statistics")
    assert [row["name"] for row in found["classes"]] == ["one", "two"]
    (tmp_path / "names.json").write_text('{"0": "one"}')  # the label 1 is none of it
    result = go("--mode", "audit", "--source", "data", "--labels", "names.json", "--workers", 3,
                "--json")
    assert result.status == 3 and json.loads(result.out)["counts"]["bad_label"] == 5
    assert max(len(threads) for threads in pools.values()) == 3


def test_workers_of_preview(shown, pools):
    shown("preview", "--workers", 3)
    assert {len(threads) for threads in pools.values()} == {3}


def test_demo_data(tmp_path, monkeypatch):
    placed = []
    monkeypatch.setattr(demo_data, "_write_digit", lambda folder, name, digits, number:
                        placed.append((os.path.basename(folder), number)))
    done("--mode", "demo_data", "--target", tmp_path / "digits", "--seed", 4)
    assert (tmp_path / "digits" / "test_datasets" / "label.json").exists()
    true = load_digits().target
    _, test = train_test_split(range(1797), test_size=360, stratify=true, random_state=4)
    assert {number for part, number in placed if part == "test_datasets"} == set(test)


def test_fetch_weights(monkeypatch):
    monkeypatch.setattr(weight_download, "fetch", lambda name, url: f"{url}/{name}.h5")
    found = done("--mode", "fetch_weights", "--backbone", "VGG16", "--weights_url", "http://a/b")
    assert found == {"backbone": "VGG16", "weights": "http://a/b/VGG16.h5"}


# --- the server -----------------------------------------------------------------------


def test_serve(tmp_path):
    """The model waits a second for another image, and goes at once where there are two."""
    write_model(tmp_path / "models" / "quarters")
    process = Process(
        tmp_path, "--save_dir", tmp_path / "models", "--model", "quarters", "--runtime", "onnx",
        "--host", "0.0.0.0", "--no_auth", "--top_k", 2, "--max_batch", 2, "--max_wait_ms", 1000,
        "--time_limit", 0.3, "--keep_uncertain", tmp_path / "kept", "--keep_below", 0.9,
        "--keep_megabytes", 0.001,
    )
    url = f"http://127.0.0.2:{process.port}"  # this machine, but not what it listens on by itself

    def ask(*images):
        return requests.post(f"{url}/predict", files=[("image", each) for each in images],
                             timeout=20)

    sure = encoded(picture((0, 0, 0, 255)))  # 98 %, by the softmax; PNG is one of 80 %
    try:
        answer = ask(PNG, sure, PNG, sure)
        assert {len(each["predictions"]) for each in answer.json()["results"]} == {2}
        text = requests.get(f"{url}/metrics", timeout=20).text
        assert 'batch_images_bucket{le="1.0"} 0.0' in text  # two batches for the four images
        assert 'batch_images_bucket{le="2.0"} 2.0' in text
        for _ in range(12):
            assert ask(PNG, PNG).status_code == 200
        assert ask(PNG).status_code == 504
        assert process.ready["runtime"] == "onnx" and process.end() == (0, "")
    finally:
        process.kill()
    kept = list((tmp_path / "kept").glob("*.png"))
    assert 2 < len(kept) < 24 and {each.read_bytes() for each in kept} == {PNG}
    assert sum(each.stat().st_size for each in (tmp_path / "kept").iterdir()) <= 1000


def test_label(place, tmp_path, monkeypatch, capsys):
    """The page is found at the port, opened, in the language; its model and tables are those."""
    opened, pages, suggested = [], [], []

    def serve(application, listener):
        client, headers = application.test_client(), {"Accept-Language": "en"}
        path = "/" + opened[0].split("/", 3)[3]
        pages.append(client.get(path, headers=headers).get_data(as_text=True))
        pages.append(client.get(f"{path}api/state").json)

    class Suggestions:
        def __init__(self, photos, queues, run, backbone):
            suggested.append((run, backbone))
            assert list(map(len, queues.hints.values())) == [1, 0, 0]

        close = state = note_labels = lambda self: None

    monkeypatch.setattr(label_mode, "_serve", serve)
    monkeypatch.setattr(label_mode, "Suggestions", Suggestions)
    monkeypatch.setattr(label_mode.webbrowser, "open", opened.append)
    monkeypatch.setenv("DISPLAY", ":0")
    (tmp_path / "mine.csv").write_text("path,label,suggested\n" + ",".join(
        (str(tmp_path / "data" / "00.png"), "first", "second\n")))
    found = done("--mode", "label", *DATA, "--run", "model", "--save_dir", "runs", "--lang", "zh",
                 "--queue", "doubtful", "--csv", "mine.csv", "--backbone", "EfficientNetB0",
                 "--suggest", "yes", "--browser", "yes", "--port", 8123)
    assert found["url"] == opened[0] and opened[0].startswith("http://127.0.0.1:8123/")
    assert suggested == [(os.path.join("runs", "model"), "EfficientNetB0")]
    assert 'lang="zh-CN"' in pages[0]
    assert pages[1]["first_queue"] == "doubtful" and pages[1]["queues"]["doubtful"] == 1
    done("--mode", "label", *DATA, "--suggest", "no", "--browser", "no")
    assert len(opened) == 1 and len(suggested) == 1


# --- all modes ------------------------------------------------------------------------

COMMANDS = {
    "train": ("--train_data", "data"), "eval": ("--run", "runs/model", *DATA),
    "predict": ("--run", "runs/model", "--image", "data"), "save_pb": ("--run", "runs/model"),
    "export": ("--run", "runs/model"), "backbones": (), "fetch_weights": (), "doctor": (),
    "preview": ("--train_data", "data"), "dir2txt": ("--source", "classes", "--target", "out"),
    "txt2dir": ("--source", "data", "--csv", "table.csv"), "mean_std": ("--source", "data"),
    "statistics": ("--source", "data"), "audit": ("--source", "data"),
    "confusion_matrix": ("--run", "runs/model", *DATA), "clean": ("--csv", "findings.csv"),
    "report": ("--run", "runs/model", *DATA),
    "relabel": ("--run", "runs/model", "--csv", "new.csv"),
    "label": ("--data", "data", "--suggest", "no"),
    "compare": ("runs/model", "runs/model", *DATA), "calibrate": ("--run", "runs/model", *DATA),
    "benchmark": ("--model", "exported"), "serve": ("--model", "exported", "--port", 0),
    "demo_data": (), "demo": (), "embed": ("--data", "data"),
    "similar": ("--data", "data", "--image", "data"), "drift": ("--run", "runs/model", *DATA),
    "add_class": ("--run", "runs/model", "--name", "third", "--data", "data"),
    "add": ("--data", "data", "--source", "classes/glass"),
    "split": ("--data", "data"), "all": ("--data", "data"),
    "crossval": ("--data", "data", "--folds", 2), "tune": ("--data", "data", "--trials", 1),
    "pack": ("--data", "data", "--target", "place"),
    "unpack": ("--data", "packed", "--target", "place"),
}


class Extractor:
    """Features of photos are how bright they are."""

    size, preprocessing = 3, Preprocessing(32)

    def describe(self):
        return {"source": {"backbone": "B", "weights": "none"}, "digest": "d", "preprocessing": {}}

    def stream(self, paths, *how):
        return ((path, np.float32([1, index, 2])) for index, path in enumerate(paths))

    def compute(self, images, batch_size):
        return images.mean((1, 2))

    def probabilities(self, features):
        return np.full((len(features), 2), 0.5, np.float32)


@pytest.mark.parametrize("mode", MODES)
def test_json_is_one_line(place, tmp_path, monkeypatch, mode):
    """What takes long stands still; each of those has tests that say the same of all of it."""
    result = {"model": "m", "difference": 0.0, "checked_images": 1, "formats": {}}
    monkeypatch.setattr(save_model, "export", lambda run, **more: result)
    monkeypatch.setattr(train, "fit", lambda options: result)
    monkeypatch.setattr(benchmark, "run_in_subprocess", lambda task: measure(
        **{**task, "seconds": (0, 0)}))
    monkeypatch.setattr(demo_data, "_write_digit", lambda *words: None)
    monkeypatch.setattr(demo, "run_all", lambda options: result)
    monkeypatch.setattr(pipeline, "run_all", lambda options: result)
    for module in (embed, similar):
        monkeypatch.setattr(module, "open_extractor", lambda options: Extractor())
    monkeypatch.setattr(drift.FeatureExtractor, "from_run", lambda run: Extractor())
    monkeypatch.setattr(drift, "FEWEST", 2)
    monkeypatch.setattr(drift, "_validation_paths", lambda run, options: ["data/00.png"] * 3)
    samples = Samples("data", ["00.png", "01.png"], np.int32([0, 1]))
    assigned = np.array([[0, 1]])
    plan = Plan("data", "out", samples, ("first", "second"), np.arange(2), assigned, [], False)
    answers = OutOfFold(np.float32([[[0.9, 0.1], [0.6, 0.4]]]), {})
    parts = add_class.Parts(("first", "third"), [("a", "first")], [("b", "third")])
    monkeypatch.setattr(add_class, "_read_parts", lambda options, run: parts)
    monkeypatch.setattr(add_class, "_train", lambda *words: "runs/model-with-third")
    monkeypatch.setattr(add_class, "_recalls", lambda *words: {"first": 0.5})
    monkeypatch.setattr(crossval, "make_plan", lambda options: plan)
    for module, name, answer in (
        (crossval.runs, "train_folds", None), (crossval.runs, "answer", answers),
        (crossval.outputs, "write", None),
    ):
        monkeypatch.setattr(module, name, lambda *words, answer=answer: answer)
    monkeypatch.setattr(tune, "make_plan", lambda options: SimpleNamespace(
        asked=parse("train", ["--weights", "none"]), counts=(2, 1, 1),
        space=Space({}, {})))
    for name, answer in (("open_study", None), ("run_trials", None), ("_conclude", result)):
        monkeypatch.setattr(tune, name, lambda *words, answer=answer: answer)
    monkeypatch.setattr(doctor, "PARTS", {"toolkit": doctor.toolkit})
    monkeypatch.setattr(weight_download, "fetch", lambda name, url: name)
    monkeypatch.setattr(server, "serve", lambda *words: words[-1](
        {"model": "m", "runtime": "onnx", "precision": "float32"}))
    monkeypatch.setattr(label_mode, "_serve", lambda *words: None)
    monkeypatch.setattr(signal, "signal", lambda *words: None)
    write_model(tmp_path / "exported")
    write_pictures(tmp_path / "classes" / "glass", HILL)
    if mode == "unpack":
        pack("data", str(tmp_path / "packed"))
    (tmp_path / "findings.csv").write_text("path,action\ndata/00.png,remove\n")
    (tmp_path / "new.csv").write_text("path,label,new_label\ndata/00.png,first,second\n")
    found = go("--mode", mode, *COMMANDS[mode], "--json")
    assert found.status in (0, 3), found.err  # 3: the audit has found something
    assert found.out.count("\n") == 1 and json.loads(found.out)


@pytest.fixture
def task(monkeypatch):
    """Takes every mode's place: notes its options, and fails."""
    def main(options):
        task.options = options
        raise InputError("as wanted")

    task = SimpleNamespace(main=main)
    monkeypatch.setattr(run.importlib, "import_module", lambda name: task)
    monkeypatch.setattr(signal, "signal", lambda *words: None)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    return task


@pytest.mark.parametrize("mode", MODES)
def test_config(task, tmp_path, mode):
    values = dict.fromkeys(MODES[mode].required, "given")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**values, "json": True}))
    for words, wanted in (([], True), (["--json", "no"], False)):
        assert run.main(["--mode", mode, "--config", str(tmp_path / "mine.yaml"), *words]) == 2
        assert task.options.json is wanted
        for name in values:
            assert getattr(task.options, name) in ("given", ("given",))


@pytest.mark.parametrize("mode", MODES)
def test_debug(task, tmp_path, capsys, mode):
    words = [word for name in MODES[mode].required for word in (f"--{name}", "given")]
    for more, shown in (([], False), (["--debug"], True)):
        assert run.main(["--mode", mode, *words, *more]) == 2
        line, *before = capsys.readouterr().err.splitlines()[::-1]
        assert line == "run.py: as wanted"
        assert bool(before) is shown and ("Traceback" in "".join(before)) is shown
