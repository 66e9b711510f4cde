"""Export for ONNX Runtime and OpenVINO: conversion, runtimes, the gate, and what auto takes."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import threading
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from conftest import ROOT, write_image, write_samples

import efficientnet.model as network
import run
import save_model
from common.errors import InputError, RunError
from common.files import checksum
from data import decoding
from data.geometry import Preprocessing
from export import acceptance, conversion, verification
from export.acceptance import DEFAULT_LIMITS, Proof
from export.formats import Variant
from export.verification import Comparison
from prediction import exported_model, openvino_predictor, runtimes
from prediction.classifier import Classifier
from prediction.runtimes import Answers
from runs import run_folder

pytestmark = pytest.mark.training

APART = verification.run_in_subprocess  # before the tests' stand-in takes its place
FEW_BLOCKS = (network.Stage(3, 1, 8, 1, 1), network.Stage(3, 2, 16, 6, 2))


def go(*words):
    """Runs `python run.py WORDS` in this process: status, standard output and error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = run.main([str(word) for word in words])
    return SimpleNamespace(status=status, out=out.getvalue(), err=err.getvalue())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tiny run exported to every format, and a folder of images it has not seen."""
    place = tmp_path_factory.mktemp("made")
    train, val = write_samples(place / "train", 4), write_samples(place / "val", 6, seed=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "STAGES", FEW_BLOCKS)
        result = go(
            "--mode", "train", "--train_data", train, "--val_data", val, "--run", "tiny",
            "--weights", "none", "--input_size", 32, "--batch_size", 4, "--epochs", 1,
            "--save_dir", place / "runs", "--log_dir", place / "logs",
        )
        assert result.status == 0, result.err
        result = go("--mode", "export", "--run", place / "runs" / "tiny", "--json")
        assert result.status == 0 and "too few" not in result.err, result.err
    return SimpleNamespace(run=place / "runs" / "tiny", model=place / "runs" / "tiny" / "model",
                           val=val, result=json.loads(result.out))


@pytest.fixture
def copy(made, tmp_path):
    """The exported folder somewhere else, to be damaged."""
    return shutil.copytree(made.model, tmp_path / "model")


def describe(folder, **changes):
    """Changes model.json, and brings its checksums up to date."""
    path = os.path.join(folder, "model.json")
    with open(path) as file:
        description = json.load(file)
    description.update(changes)
    for name in description["files"]:
        description["files"][name] = checksum(os.path.join(folder, name))
    with open(path, "w") as file:
        json.dump(description, file)


def val_images(made):
    settings = Preprocessing(32)
    names = sorted(name for name in os.listdir(made.val) if name.endswith(".png"))
    return np.stack([decoding.load(os.path.join(made.val, name), settings) for name in names])


# --- conversion -----------------------------------------------------------------------


def shifted(predict, difference):
    """What answers like `predict`, but with probabilities that differ."""

    def answer(x):
        answers = predict(x)
        return answers._replace(probabilities=answers.probabilities + np.float32(difference))

    return answer


def convert(model, folder):
    """The answers of ONNX Runtime and OpenVINO to five random images, and the model's own."""
    x = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
    conversion.to_onnx(model, str(folder / "model.onnx"), runtimes.INPUT, [runtimes.OUTPUT])
    conversion.to_openvino(str(folder / "model.onnx"), str(folder / "model.xml"))
    answers = [
        runtimes.open_model(str(folder), name)(x).probabilities for name in ("onnx", "openvino")
    ]
    return answers, np.asarray(model.predict_on_batch(x))


def small_model(middle):
    inputs = keras.Input((16, 16, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.Conv2D(8, 3, activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(middle(x))
    return keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x))


@pytest.mark.parametrize("middle", [
    keras.layers.Conv2D(8, 3, groups=4),  # a function of its own in Keras's graph
    keras.layers.Activation("gelu"),  # erfc, which ONNX lacks
    keras.layers.DepthwiseConv2D(3),
], ids=["groups", "gelu", "depthwise"])
def test_both_runtimes_answer_as_keras(middle, tmp_path):
    answers, expected = convert(small_model(middle), tmp_path)
    for answer in answers:
        assert answer.shape == (5, 3) and np.abs(answer - expected).max() < 1e-5


def test_the_onnx_file_names_its_input_and_output(made):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(made.model / "model.onnx"))
    [taken], [given, similarity] = session.get_inputs(), session.get_outputs()
    assert (similarity.name, similarity.shape) == ("output_similarity", ["images", 1])
    assert (taken.name, taken.type, taken.shape) == ("input_img", "tensor(uint8)",
                                                     ["images", 32, 32, 3])
    assert (given.name, given.shape) == ("output_score", ["images", 3])


def test_what_onnx_lacks_is_named(tmp_path):
    class Spectrum(keras.layers.Layer):
        def call(self, x):
            return keras.ops.fft2((x, keras.ops.zeros_like(x)))[1]

    with pytest.raises(RunError, match="onnx: does not support .*Imag"):
        convert(small_model(Spectrum()), tmp_path)


# --- runtimes -------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, 32, 33, 70])
def test_batches_of_any_size(made, count):
    """OpenVINO fills up and splits them; ONNX Runtime takes them as they are."""
    x = np.random.default_rng(count).integers(0, 256, (count, 32, 32, 3), np.uint8)
    one, two = (
        runtimes.open_model(str(made.model), name)(x).probabilities
        for name in ("openvino", "onnx")
    )
    assert one.shape == two.shape == (count, 3)
    assert np.abs(one - two).max() < 1e-5


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("name", ["openvino", "onnx"])
def test_threads_get_their_own_answers(made, name, count):
    predict = runtimes.open_model(str(made.model), name)
    images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), np.uint8)
    expected = predict(images).probabilities
    found, failed = {}, []

    def work(number):
        try:
            for turn in range(20):
                position = (number + turn) % (17 - count)
                rows = predict(images[position : position + count]).probabilities
                found[number, turn] = position, rows
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and len(found) == 120
    for position, rows in found.values():
        assert np.abs(rows - expected[position : position + count]).max() < 1e-5


@pytest.mark.parametrize("name, file", [("openvino", "model.xml"), ("onnx", "model.onnx")])
def test_a_file_that_is_none(copy, name, file):
    (copy / file).write_bytes(b"nothing")
    with pytest.raises(InputError, match=f"{file}: cannot be opened"):
        runtimes.open_model(str(copy), name)


def test_signals_still_arrive_when_models_have_gone(made):
    """OpenVINO's plugin, gone too early, leaves a processor with AMX no stack for them.

    Other processors would not show it, so the Cores are counted as well.
    """
    script = (
        "import numpy, openvino, os, signal, sys\n"
        "from prediction import runtimes\n"
        "cores, Core = [], openvino.Core\n"
        "openvino.Core = lambda: cores.append(1) or Core()\n"
        "signal.signal(signal.SIGUSR1, lambda *_: print('arrived', len(cores)))\n"
        "models = [runtimes.open_model(sys.argv[1], 'openvino') for _ in range(2)]\n"
        "for model in models:\n"
        "    model(numpy.zeros((2, 32, 32, 3), 'uint8'))\n"
        "del model, models[0], models[0]\n"
        "os.kill(os.getpid(), signal.SIGUSR1)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, made.model], cwd=ROOT,
                          capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "arrived 1\n"), done.stderr


def test_a_runtime_that_is_not_installed(made, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    # Without what it remembers: other tests have imported it.
    monkeypatch.setattr(openvino_predictor, "_core", openvino_predictor._core.__wrapped__)
    with pytest.raises(InputError, match="openvino is not installed; pip install openvino"):
        runtimes.open_model(str(made.model), "openvino")


# --- the gate -------------------------------------------------------------------------


def test_every_format_is_close_to_the_trained_model(made):
    assert set(made.result["formats"]) == {"savedmodel", "onnx", "openvino"}
    assert made.result["difference"] < 1e-4
    # 16 of the 18 validation images are in check/, the other two in their folder.
    assert made.result["checked_images"] == 18
    with open(made.model / "model.json") as file:
        assert json.load(file)["formats"] == made.result["formats"]


def test_judging():
    expected = np.array([[0.7, 0.2, 0.1], [0.4, 0.5, 0.1], [0.9, 0.1, 0.0], [0.2, 0.5, 0.3]])
    found = np.array([[0.6, 0.1, 0.3], [0.55, 0.35, 0.1], [0.9, 0.0, 0.1], [0.2, 0.5, 0.3]])
    assert verification.compare(Answers(expected), Answers(found)).to_json() == {
        "difference": pytest.approx(0.2), "agreement": 0.75,
    }
    broken = found * [[np.nan], [1], [1], [1]]
    assert np.isnan(verification.compare(Answers(expected), Answers(broken)).difference)


def test_similarities_are_judged_too():
    same = np.array([[0.7, 0.3], [0.4, 0.6]])
    one, two, three = (np.float32(each) for each in ([0.9, 0.5], [0.9, 0.7], [0.9, np.nan]))
    found = verification.compare(Answers(same, one), Answers(same, two))
    assert found.to_json() == {
        "difference": 0.0, "agreement": 1.0, "similarity": pytest.approx(0.2),
    }
    assert "differs by 2.0e-01" in DEFAULT_LIMITS.problem("float32", found)
    assert DEFAULT_LIMITS.problem("int8", found) == ""
    broken = verification.compare(Answers(same, one), Answers(same, three))
    assert "differs by nan" in DEFAULT_LIMITS.problem("float32", broken)
    assert "NaN" in DEFAULT_LIMITS.problem("int8", broken)


def test_answers_stay_when_others_are_asked_for(made):
    x = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    predict = runtimes.open_model(str(made.model), "openvino")
    first = predict(x[:1]).probabilities
    before = first.copy()
    assert not np.array_equal(predict(x[1:]).probabilities, before)
    assert np.array_equal(first, before)


def test_half_precision_that_is_no_number_is_not_offered(made, tmp_path, monkeypatch):
    """An image of class 0 would count as agreeing: the likeliest of none is the first."""
    path = shutil.copytree(made.run, tmp_path / "tiny")
    monkeypatch.setattr(acceptance, "ENOUGH_IMAGES", 18)
    monkeypatch.setattr(network, "STAGES", FEW_BLOCKS)
    half = Comparison(difference=np.nan, agreement=1.0)
    right = Comparison(difference=0.0, agreement=1.0)
    variants = [Variant("onnx", "float32"), Variant("openvino", "float32")]
    comparisons = {**dict.fromkeys(variants, right), Variant("openvino", "bfloat16", False): half}
    result = save_model.export(
        run_folder.read(str(path)), variants, lambda *task: Proof(comparisons, None, 18))
    assert result["formats"]["openvino"] == {"float32": {"difference": 0.0, "agreement": 1.0}}


def test_save_pb_keeps_the_other_formats_of_the_same_weights(made, tmp_path, monkeypatch):
    """Their files stay byte for byte, what model.json says of them too, and they still answer."""
    monkeypatch.setattr(network, "STAGES", FEW_BLOCKS)
    path = shutil.copytree(made.run, tmp_path / "tiny")
    result = go("--mode", "save_pb", "--run", path, "--json")
    assert result.status == 0 and "of the same weights and are kept" in result.err, result.err
    kept = ["model.onnx", "model.xml", "model.bin"]
    for name in kept:
        assert (path / "model" / name).read_bytes() == (made.model / name).read_bytes()
    before, after = (json.loads((folder / "model.json").read_text())
                     for folder in (made.model, path / "model"))
    assert set(after["formats"]) == {"savedmodel", "onnx", "openvino"} and set(
        kept) < set(after["files"])
    assert all(after["formats"][key] == before["formats"][key] for key in ("onnx", "openvino"))
    assert json.loads(result.out)["formats"] == after["formats"]
    answers = [json.loads(go("--mode", "predict", "--run", path / "model", "--runtime", runtime,
                             "--image", made.val, "--json").out) for runtime in ("onnx",
                                                                                 "savedmodel")]
    for one, other in zip(*answers, strict=True):
        assert one["predictions"][0]["probability"] == pytest.approx(
            other["predictions"][0]["probability"], abs=1e-4)


def test_save_pb_says_that_formats_of_other_weights_go(made, tmp_path, monkeypatch):
    monkeypatch.setattr(network, "STAGES", FEW_BLOCKS)
    path = shutil.copytree(made.run, tmp_path / "tiny")
    describe(path / "model", weights="0" * 64)
    result = go("--mode", "save_pb", "--run", path, "--json")
    assert result.status == 0 and list(json.loads(result.out)["formats"]) == ["savedmodel"]
    assert "onnx, openvino are of other weights and are removed; --mode export" in result.err
    assert not (path / "model" / "model.onnx").exists()


def test_save_pb_refuses_where_a_format_to_keep_is_damaged(made, tmp_path, monkeypatch):
    monkeypatch.setattr(network, "STAGES", FEW_BLOCKS)
    path = shutil.copytree(made.run, tmp_path / "tiny")
    (path / "model" / "model.onnx").write_bytes(b"damaged")
    before = sorted(os.listdir(path / "model"))
    result = go("--mode", "save_pb", "--run", path)
    assert result.status == 2 and sorted(os.listdir(path / "model")) == before
    last = result.err.splitlines()[-1]
    assert "model.onnx" in last and "--mode export makes all of them again" in last


def test_in_a_process_of_its_own_the_answers_are_the_same(made):
    """Without the stand-in that the other tests have; and what goes wrong there is told."""
    files = [os.path.join(made.val, "img_0_0.png"), os.path.join(made.val, "img_2_5.png")]
    what, settings = [("onnx", "float32"), ("openvino", "float32")], Preprocessing(32)
    assert verification.run_in_subprocess is verification.predict_all  # the stand-in
    task = {"folder": str(made.model), "pairs": what, "image_paths": files,
            "preprocessing": settings._asdict(), "answers_path": str(made.run / "answers.npz")}
    process = subprocess.run([sys.executable, "-m", "export.verification"], cwd=ROOT, text=True,
                             input=json.dumps(task), capture_output=True)
    assert process.returncode == 0, process.stderr
    with np.load(made.run / "answers.npz") as arrays:
        found = [verification._unpack(arrays, number) for number in range(2)]
    os.unlink(made.run / "answers.npz")
    expected = verification.predict_all(str(made.model), what, files, settings)
    for one, two in zip(found, expected, strict=True):
        assert np.array_equal(one.probabilities, two.probabilities)
        assert np.array_equal(one.similarities, two.similarities)
    task["image_paths"] = [str(made.run / "gone.png")]
    process = subprocess.run([sys.executable, "-m", "export.verification"], cwd=ROOT, text=True,
                             input=json.dumps(task), capture_output=True)
    assert process.returncode == 1 and "gone.png" in process.stderr.splitlines()[-1]


@pytest.mark.parametrize("wrong", [0.01, np.nan])
def test_what_answers_otherwise_is_not_published(made, tmp_path, monkeypatch, wrong):
    """By one runtime alone: the older export stays, the new one is kept aside."""
    path = shutil.copytree(made.run, tmp_path / "tiny")
    before = checksum(path / "model" / "model.json")

    def answers(folder, what, *task):
        found = right(folder, what, *task)
        found[what.index(("onnx", "float32"))].probabilities[3] += wrong
        return found

    right = verification.predict_all
    monkeypatch.setattr(verification, "run_in_subprocess", answers)
    monkeypatch.setattr(network, "STAGES", FEW_BLOCKS)
    result = go("--mode", "export", "--run", path, "--format", "savedmodel,onnx")
    assert result.status == 1
    assert "not published" in result.err and "onnx" in result.err.splitlines()[-1]
    assert checksum(path / "model" / "model.json") == before
    assert (path / "model.rejected" / "model.onnx").exists()


def test_half_precision_that_changes_answers_is_not_offered(made, tmp_path, monkeypatch):
    path = shutil.copytree(made.run, tmp_path / "tiny")

    def answers(folder, what, *task):
        found = right(folder, [(name, "float32") for name, _ in what], *task)
        number = what.index(("openvino", "bfloat16"))
        rows = found[number].probabilities
        rows[0] = np.roll(rows[0], 1)
        return found

    right = verification.predict_all
    monkeypatch.setattr(acceptance, "ENOUGH_IMAGES", 18)
    monkeypatch.setattr(runtimes, "has_bfloat16", lambda: True)
    monkeypatch.setattr(verification, "run_in_subprocess", answers)
    monkeypatch.setattr(network, "STAGES", FEW_BLOCKS)
    for least, kept in ((0.995, {"float32"}), (0.9, {"float32", "bfloat16"})):
        result = go("--mode", "export", "--run", path, "--format", "openvino", "--json",
                    "--min_agreement", least, "--max_drop", 1)
        assert result.status == 0, result.err
        assert set(json.loads(result.out)["formats"]["openvino"]) == kept
        # What is not asked for does not stay from before.
        assert not (path / "model" / "model.onnx").exists()
        assert not (path / "model" / "saved_model.pb").exists()
    # What was asked for is not left out but refused.
    result = go("--mode", "export", "--run", path, "--format", "openvino", "--quantize", "bf16")
    assert result.status == 1 and "openvino in bfloat16 predicts the same class" in result.err


# --- what is taken --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["openvino", "onnx", "savedmodel"])
def test_each_runtime_answers_as_the_trained_model(made, name):
    found = Classifier.load(str(made.model), runtime=name)
    assert found.runtime == (name, "float32")
    x = val_images(made)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "STAGES", FEW_BLOCKS)
        trained = Classifier._load_run(run_folder.read(str(made.run)))
    assert np.abs(found.probabilities(x) - trained.probabilities(x)).max() < 1e-4


FORMATS = {"savedmodel": {"float32": {}}, "onnx": {"float32": {}},
           "openvino": {"float32": {}, "bfloat16": {}}}


@pytest.mark.parametrize("formats, installed, half, expected", [
    (FORMATS, {"openvino", "onnx", "savedmodel"}, True,
     [("openvino", "bfloat16"), ("openvino", "float32"), ("onnx", "float32"),
      ("savedmodel", "float32")]),
    (FORMATS, {"openvino", "onnx"}, False, [("openvino", "float32"), ("onnx", "float32")]),
    ({**FORMATS, "openvino": {"float32": {}}}, {"openvino"}, True, [("openvino", "float32")]),
    (FORMATS, {"savedmodel"}, True, [("savedmodel", "float32")]),
])
def test_the_order_of_auto(monkeypatch, formats, installed, half, expected):
    monkeypatch.setattr(runtimes, "is_installed", lambda name: name in installed)
    monkeypatch.setattr(runtimes, "has_bfloat16", lambda: half)
    assert exported_model.candidates(formats, "auto", True) == expected
    single = [each for each in expected if each[1] == "float32"]
    assert exported_model.candidates(formats, "auto", False) == single  # what measures


def test_nothing_installed(monkeypatch):
    monkeypatch.setattr(runtimes, "is_installed", lambda name: False)
    with pytest.raises(InputError, match="pip install openvino or onnxruntime$"):
        exported_model.candidates(
            {"onnx": {"float32": {}}, "openvino": {"float32": {}}}, "auto", True)


def test_auto_goes_on_to_the_next_and_says_so(copy, capsys):
    (copy / "model.xml").write_text("nothing")
    describe(copy)
    assert Classifier.load(str(copy)).runtime == ("onnx", "float32")
    assert "model.xml" in (note := capsys.readouterr().err) and "onnx takes its place" in note
    with pytest.raises(InputError, match="model.xml"):
        Classifier.load(str(copy), runtime="openvino")


@pytest.mark.parametrize("wrong", [0.01, np.nan])
def test_the_self_test_finds_another_answer(copy, monkeypatch, wrong):
    """Of each runtime: there is none left to take."""
    opened = runtimes.open_model
    monkeypatch.setattr(runtimes, "open_model", lambda *task: shifted(opened(*task), wrong))
    monkeypatch.setattr(runtimes, "has_bfloat16", lambda: False)
    with pytest.raises(InputError, match="fails its self-test in float32"):
        Classifier.load(str(copy))


@pytest.mark.parametrize("wrong, passes", [(0.55, True), (0.65, False)])
def test_fewer_bits_may_be_as_far_off_as_the_export_saw(copy, monkeypatch, wrong, passes):
    """And a tenth more: what the gate has published, the self-test does not refuse."""
    shutil.copy(copy / "model.onnx", copy / "model.int8.onnx")
    describe(copy, formats={"onnx": {"int8": {"difference": 0.5, "agreement": 1.0}}})
    opened = runtimes.open_model
    monkeypatch.setattr(runtimes, "open_model", lambda *task: shifted(opened(*task), wrong))
    if passes:
        assert Classifier.load(str(copy)).runtime == ("onnx", "int8")
    else:
        with pytest.raises(InputError, match="fails its self-test in int8.*allowed is 0.6$"):
            Classifier.load(str(copy))


def test_a_runtime_without_its_file(copy, made):
    os.unlink(copy / "model.onnx")
    description = json.loads((copy / "model.json").read_text())
    files = {k: v for k, v in description["files"].items() if k != "model.onnx"}
    formats = {k: v for k, v in description["formats"].items() if k != "onnx"}
    describe(copy, files=files, formats=formats)
    result = go("--mode", "predict", "--run", copy, "--runtime", "onnx", "--image", made.val)
    assert result.status == 2
    assert "--runtime: onnx" in result.err and "it has savedmodel, openvino" in result.err


def test_a_run_without_an_export_has_no_runtime_to_choose(made, tmp_path):
    path = shutil.copytree(made.run, tmp_path / "tiny")
    shutil.rmtree(path / "model")
    result = go("--mode", "predict", "--run", path, "--runtime", "onnx", "--image", made.val)
    assert result.status == 2 and "--mode export makes one" in result.err


def test_predict_does_not_import_tensorflow(made):
    """In a process of its own, of the run and of the exported folder."""
    script = (
        "import sys, runpy\nsys.argv = ['run.py', *sys.argv[1:]]\n"
        "try:\n    runpy.run_path('run.py', run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    sys.exit(end.code or len({'tensorflow', 'keras', 'jax'} & set(sys.modules)))"
    )
    image = os.path.join(made.val, "img_1_0.png")
    process = subprocess.run(
        [sys.executable, "-c", script, "--mode", "predict", "--run", str(made.run), "--image",
         image, "--json"], cwd=ROOT, capture_output=True, text=True,
    )
    assert process.returncode == 0, process.stderr
    [answer] = json.loads(process.stdout)
    loaded = Classifier.load(str(made.model), allow_low_precision=True)
    expected = loaded.classify([image], 3)[0]
    for found, wanted in zip(answer["predictions"], expected):
        assert found["label"] == wanted["label"]
        assert found["probability"] == pytest.approx(wanted["probability"], abs=1e-5)


def test_an_image_written_elsewhere_is_read_from_its_bytes(made, tmp_path):
    write_image(tmp_path / "one.jpg", (200, 40, 40), (90, 70))
    loaded = Classifier.load(str(made.model), runtime="onnx")
    from_path = loaded.classify([str(tmp_path / "one.jpg")])
    assert from_path == loaded.classify([(tmp_path / "one.jpg").read_bytes()])


def test_half_precision_needs_enough_images(made):
    """18 are too few, and how many they were stands in model.json."""
    assert set(made.result["formats"]["openvino"]) == {"float32"}
    assert json.loads((made.model / "model.json").read_text())["checked_images"] == 18


def test_two_signatures_that_differ_are_not_published(made, monkeypatch):
    opened = runtimes.signatures

    def other(folder):
        found = opened(folder)
        assert set(found) == {"serving_default", "predict_image", "predict_bytes"}

        return {**found, "predict_image": shifted(found["predict_image"], 0.01)}

    monkeypatch.setattr(runtimes, "signatures", other)
    files = [os.path.join(made.val, "img_0_0.png")]
    with pytest.raises(RunError, match="two signatures differ by 1.0e-02"):
        verification.predict_all(str(made.model), [("savedmodel", "float32")], files,
                     Preprocessing(32))


def test_a_gate_that_is_killed_says_so(made, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(
        returncode=-9, stderr="W0000 some warning of TensorFlow's\n"))
    with pytest.raises(RunError, match="status -9, as of a process that was killed$"):
        APART(str(made.model), [], [], Preprocessing(32))


@pytest.mark.parametrize("damage", ["formats", "null", "cut", "shape"])
def test_damage_is_refused_in_one_line(copy, made, damage):
    if damage in ("formats", "null"):
        describe(copy, formats=["onnx"] if damage == "formats" else {"onnx": None})
    elif damage == "cut":
        (copy / "self_test.npz").write_bytes(b"PK")
        describe(copy)
    else:
        np.savez(copy / "self_test.npz", image=np.zeros((32, 32, 3), np.uint8),
                 probabilities=np.zeros(2))
        describe(copy)
    result = go("--mode", "predict", "--run", copy, "--image", made.val)
    assert result.status == 2, result.err
    assert result.err.splitlines()[-1].startswith(f"run.py: {copy}")


def test_an_export_without_a_self_test_still_has_to_fit_its_labels(copy):
    os.unlink(copy / "self_test.npz")
    description = json.loads((copy / "model.json").read_text())
    files = {k: v for k, v in description["files"].items() if k != "self_test.npz"}
    describe(copy, files=files)
    assert Classifier.load(str(copy)).runtime == ("openvino", "float32")
    describe(copy, files=files, labels=["a", "b"])
    with pytest.raises(InputError, match="has 2 labels, the model 3 outputs"):
        Classifier.load(str(copy))


def test_a_broken_runtime_lets_the_next_one_in(copy, monkeypatch, capsys):
    """One that opens and fails at the first image."""
    def broken(folder, precision):
        def predict(x):
            raise RuntimeError("no such instruction")
        return predict

    openvino = runtimes.RUNTIMES["openvino"]._replace(open=broken)
    monkeypatch.setitem(runtimes.RUNTIMES, "openvino", openvino)
    assert Classifier.load(str(copy)).runtime == ("onnx", "float32")
    assert "no such instruction; onnx takes its place" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("export", "--format", "onnx"), ("save_pb",),
                                   ("save_pb", "--multigpu")])
def test_a_model_that_is_no_better_than_one_answer_is_called_so(
        made, tmp_path, monkeypatch, words):
    monkeypatch.setattr(network, "STAGES", FEW_BLOCKS)
    path = shutil.copytree(made.run, tmp_path / "tiny")
    metrics = run_folder.read_metrics(str(path))
    assert metrics["val_class_images"] == [6, 6, 6]
    run_folder.add_metrics(str(path), {"val_accuracy": 6 / 18})
    result = go(*words, "--run", path)
    assert result.status == 0, result.err
    assert result.err.count("would be right for 0.3333: this model is no better, on the val") == 1


@pytest.mark.parametrize("metrics", [
    '{"val_accuracy": 0.3}', '{"val_accuracy": 0.4, "val_class_images": [6, 6, 6]}', "[", None])
def test_of_a_better_model_and_an_old_run_nothing_is_said(made, tmp_path, metrics, capsys):
    import save_model

    if metrics:
        (tmp_path / run_folder.METRICS).write_text(metrics)
    save_model._say_no_better(run_folder.read(str(made.run))._replace(path=str(tmp_path)))
    assert capsys.readouterr().err == ""
