"""Fewer bits, LiteRT, and the SavedModel that takes files: sizes, answers, and what is refused."""

import json
import os
import shutil
import threading
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from conftest import write_samples
from PIL import Image
from test_export import FEW_BLOCKS, go, made, val_images  # noqa: F401, a fixture

import efficientnet.model as network
from common.errors import InputError
from data import decoding
from data.geometry import Preprocessing
from export import formats, graph_preprocessing, verification
from export.acceptance import Limits
from export.formats import Variant
from export.verification import Comparison
from prediction import exported_model, runtimes
from prediction.classifier import Classifier
from prediction.runtimes import Answers
from runs import reference_images, run_folder

pytestmark = pytest.mark.training

EVERY = [(name, precision) for name, runtime in runtimes.RUNTIMES.items()
         for precision in runtime.files if precision != "bfloat16"]
if not runtimes.has_openvino_int8():  # this processor has no VNNI: it is left out
    EVERY.remove(("openvino", "int8"))
# On probabilities: ten bits of a weight and rounded ranges, in a network of a few layers
CLOSE = {"float32": 1e-5, "float16": 2e-3, "int8": 0.1}


@pytest.fixture(scope="module")
def small(made, tmp_path_factory):  # noqa: F811
    """The tiny run exported to everything there is."""
    path = shutil.copytree(made.run, tmp_path_factory.mktemp("small") / "tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "STAGES", FEW_BLOCKS)
        result = go("--mode", "export", "--run", path,
                    "--format", "savedmodel,onnx,openvino,litert",
                    "--quantize", "none,fp16,int8", "--min_agreement", 0, "--max_drop", 1, "--json")
    assert result.status == 0, result.err
    return SimpleNamespace(run=path, model=path / "model", result=json.loads(result.out))


@pytest.mark.parametrize("name, precision", EVERY)
def test_every_precision_answers_nearly_the_same(small, made, name, precision):  # noqa: F811
    x = val_images(made)
    expected = Classifier.load(str(made.model), runtime="onnx").probabilities(x)
    found = runtimes.open_model(str(small.model), name, precision)(x).probabilities
    assert found.dtype == np.float32 and np.abs(found - expected).max() < CLOSE[precision]


def test_all_of_it_stands_in_the_description(small):
    description = json.loads((small.model / "model.json").read_text())
    there = {(name, precision) for name, each in description["formats"].items()
             for precision in each if precision != "bfloat16"}
    assert there == set(EVERY)
    assert description["formats"] == small.result["formats"]
    assert not (small.model / "scratch").exists()


def test_float16_halves_the_weights(small):
    """By ONNX's own reading of the file: every weight worth it has 16 bits, rounded to nearest."""
    import onnx
    from onnx import numpy_helper

    whole, half = ({each.name: numpy_helper.to_array(each) for each in
                    onnx.load(small.model / f"{name}.onnx").graph.initializer}
                   for name in ("model", "model.float16"))
    large = [name for name, value in whole.items()
             if value.dtype == np.float32 and value.size >= 64]
    assert large
    for name in large:
        assert name not in half
        assert np.array_equal(half[name + "_float16"], whole[name].astype(np.float16))


def test_int8_files_hold_bytes(small):
    import onnx
    from onnx import TensorProto

    graph = onnx.load(small.model / "model.int8.onnx").graph
    kernels = [each for each in graph.initializer if len(each.dims) == 4 and each.dims[0] > 1]
    assert kernels and all(each.data_type in (TensorProto.INT8, TensorProto.UINT8)
                           for each in kernels)


def test_bits_of_litert(small):
    """In int8 not the weights alone: what flows between layers has 8 bits as well."""
    from ai_edge_litert.interpreter import Interpreter

    def kinds(name):
        found = Interpreter(str(small.model / name)).get_tensor_details()
        return [each["dtype"] for each in found if len(each["shape"]) == 4]

    assert kinds("model.tflite").count(np.int8) == 0
    quantized = kinds("model.int8.tflite")
    assert quantized.count(np.int8) > quantized.count(np.float32)
    half = kinds("model.float16.tflite")
    assert half.count(np.float16) > 3 and half.count(np.int8) == 0


@pytest.mark.parametrize("name, file", [
    ("openvino", ["model.xml", "model.bin"]), ("litert", ["model.tflite"]),
    ("savedmodel", ["saved_model.pb", "variables/variables.index",
                    "variables/variables.data-00000-of-00001"]),
])
def test_size_counts_all_that_a_runtime_needs(small, name, file):
    assert runtimes.size(str(small.model), name, "float32") == sum(
        os.path.getsize(small.model / each) for each in file
    )


def test_litert_serves_threads_and_batches_of_any_size(small):
    predict = runtimes.open_model(str(small.model), "litert")
    images = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), np.uint8)
    expected = runtimes.open_model(str(small.model), "onnx")(images).probabilities
    found = {}

    def work(count):
        for _ in range(10):
            found.setdefault(count, []).append(predict(images[:count]).probabilities)

    threads = [threading.Thread(target=work, args=(count,)) for count in (1, 4, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for count in (1, 4, 7):
        assert len(found[count]) == 10
        assert all(np.abs(rows - expected[:count]).max() < 1e-5 for rows in found[count])


def test_int8_alone_is_a_model_too(small, made, tmp_path, monkeypatch):  # noqa: F811
    """Formats that have none are left out unless they are named; what measures takes it as well."""
    path = shutil.copytree(made.run, tmp_path / "tiny")
    monkeypatch.setattr(network, "STAGES", FEW_BLOCKS)
    words = ("--mode", "export", "--run", path, "--quantize", "int8", "--max_drop", 1)
    result = go(*words, "--min_agreement", 0, "--json")
    assert result.status == 0, result.err
    assert json.loads(result.out)["difference"] is None
    assert "18 images are too few" in result.err
    there = sorted(name for name in os.listdir(path / "model") if name.startswith("model."))
    assert there == ["model.int8.onnx", "model.json"]
    loaded = Classifier.load(str(path / "model"))
    assert loaded.runtime == ("openvino" if ("openvino", "int8") in EVERY else "onnx", "int8")
    assert Classifier.load(str(path / "model"), runtime="onnx").runtime == (
        "onnx", "int8")
    # An answer that changed keeps it from being published; the one before stays.
    right = verification.predict_all
    monkeypatch.setattr(
        verification,
        "run_in_subprocess",
        lambda *task: [
            each._replace(probabilities=np.roll(each.probabilities, 1, axis=1))
            for each in right(*task)
        ],
    )
    result = go(*words, "--min_agreement", 0.9)
    assert result.status == 1
    assert ("onnx in int8 predicts the same class for 0.00% of the images, the minimum is 90.00%"
            in result.err)
    assert (path / "model" / "model.int8.onnx").exists()
    assert (path / "model.rejected" / "model.int8.onnx").exists()


def test_int8_needs_images_that_were_trained_on(made, tmp_path):  # noqa: F811
    path = shutil.copytree(made.run, tmp_path / "tiny")
    text = (path / "options.yaml").read_text()
    train = run_folder.read(str(path)).options.train_data
    (path / "options.yaml").write_text(text.replace(train, str(tmp_path / "gone")))
    shutil.rmtree(path / "margins")
    result = go("--mode", "export", "--run", path, "--quantize", "int8")
    assert result.status == 2
    assert result.err.splitlines()[-1] == (
        f"run.py: --quantize: int8: needs images that {path} was trained on; none is left in "
        f"{tmp_path / 'gone'}")


# --- what is asked for ----------------------------------------------------------------


def test_plan(monkeypatch):
    monkeypatch.setattr(runtimes, "has_bfloat16", lambda: True)
    monkeypatch.setattr(runtimes, "has_openvino_int8", lambda: True)
    default = ("savedmodel", "onnx", "openvino")
    assert formats.plan(default, ("none",), False) == [
        Variant(name, "float32") for name in default]
    assert formats.plan(default, ("none", "int8"), True) == [
        Variant("savedmodel", "float32"), Variant("onnx", "float32"), Variant("onnx", "int8"),
        Variant("openvino", "float32"), Variant("openvino", "int8")]
    assert formats.plan(default, ("fp16",), False) == [
        Variant("onnx", "float16"), Variant("openvino", "float16")]
    assert formats.plan(default, ("bf16",), True) == [
        Variant("savedmodel", "float32"), Variant("onnx", "float32"),
        Variant("openvino", "float32"), Variant("openvino", "bfloat16")]


def test_openvino_that_is_not_installed_is_not_called_wrong(monkeypatch):
    def no_openvino():
        raise ModuleNotFoundError("No module named 'openvino'")

    monkeypatch.setattr(runtimes, "sums_overflow", no_openvino)
    monkeypatch.setattr(runtimes, "is_installed", lambda name: False)
    assert runtimes.has_openvino_int8.__wrapped__()  # opening it says what to install


def test_openvino_in_int8_where_its_sums_overflow(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(runtimes, "has_openvino_int8", lambda: False)
    assert formats.plan(("onnx", "openvino"), ("none", "int8"), True) == [
        Variant("onnx", "float32"), Variant("onnx", "int8"), Variant("openvino", "float32")]
    assert capsys.readouterr().err == (
        "note: openvino in int8 is left out: this CPU has no VNNI, so its sums overflow\n")
    with pytest.raises(InputError, match="--quantize: int8: this CPU has no VNNI.*--format onnx"):
        formats.plan(("openvino",), ("none", "int8"), True)
    with pytest.raises(InputError, match="its int8 is wrong on this CPU.*--runtime onnx"):
        runtimes.open_model(str(tmp_path), "openvino", "int8")
    there = {"openvino": ("float32", "int8"), "onnx": ("int8",)}
    monkeypatch.setattr(runtimes, "is_installed", lambda name: True)
    monkeypatch.setattr(runtimes, "has_bfloat16", lambda: False)
    assert exported_model.candidates(there, "auto", True) == [
        ("openvino", "float32"), ("onnx", "int8")]


@pytest.mark.parametrize("precisions, available, expected", [
    (("float32", "int8"), True, ("float32", "int8", "bfloat16")),
    (("float32",), False, ("float32",)),
    (("int8",), True, ("int8",)),  # has no float32 file to compute from
    (("float32", "bfloat16"), True, ("float32", "bfloat16")),
])
def test_bfloat16_is_tried_unasked(monkeypatch, precisions, available, expected):
    """After the others of OpenVINO, and not as something that the export fails without."""
    monkeypatch.setattr(runtimes, "has_bfloat16", lambda: available)
    others = Variant("onnx", "float32"), Variant("litert", "float32")
    variants = [others[0], *(Variant("openvino", each) for each in precisions), others[1]]
    first, *own, last = formats.with_bfloat16(variants)
    assert (first, last) == others
    assert [variant.precision for variant in own] == list(expected)
    assert [variant.requested for variant in own] == [name in precisions for name in expected]


@pytest.mark.parametrize("given, quantize, message", [
    (("savedmodel", "onnx"), ("int8",), "savedmodel has no such precision; allowed for it: none$"),
    (("litert",), ("bf16",), "bf16: needs one of the formats openvino$"),
    (("savedmodel", "litert"), ("fp16",),
     "savedmodel has no such precision; allowed for it: none$"),
    (("onnx",), ("none", "bf16"), "bf16: needs one of the formats openvino$"),
    (("openvino",), ("bf16",), "this CPU does not compute in bfloat16"),
])
def test_what_no_format_can_do(monkeypatch, given, quantize, message):
    monkeypatch.setattr(runtimes, "has_bfloat16", lambda: False)
    with pytest.raises(InputError, match=message):
        formats.plan(given, quantize, True)


@pytest.mark.parametrize("found, precision, problem", [
    (Comparison(1e-4), "float32", ""),
    (Comparison(1.1e-4), "float32", "differs by 1.1e-04, allowed is 0.0001"),
    (Comparison(np.nan), "float32", "differs by nan, allowed is 0.0001"),
    (Comparison(0.4, 0.995, 0.9, 0.01), "int8", ""),
    (Comparison(np.nan, 1.0), "int8",
     "gives probabilities or similarities that are NaN or infinite"),
    (Comparison(0.4, 0.99), "float16", "predicts the same class for 99.00% of the images, the "
     "minimum is 99.50% (--min_agreement)"),
    (Comparison(0.4, 0.996, 0.9, 0.0101), "int8",
     "loses 0.0101 of accuracy, allowed is 0.01 (--max_drop)"),
])
def test_what_keeps_a_precision_from_being_published(found, precision, problem):
    assert Limits(1e-4, 0.995, 0.01).problem(precision, found) == problem


def test_accuracy_is_judged_where_a_label_is_known():
    expected = np.array([[0.7, 0.3], [0.4, 0.6], [0.9, 0.1], [0.2, 0.8]])
    found = np.array([[0.6, 0.4], [0.6, 0.4], [0.9, 0.1], [0.9, 0.1]])
    judged = verification.compare(Answers(expected), Answers(found), np.array([0, 1, 1, -1]))
    # Of the three with a label two were right, and one is: image 1 has changed.
    assert judged.accuracy == pytest.approx(1 / 3)
    assert judged.drop == pytest.approx(1 / 3)
    assert verification.compare(Answers(expected), Answers(found), np.full(4, -1)).drop is None


@pytest.mark.parametrize("half, expected", [
    (True, [("openvino", "int8"), ("openvino", "bfloat16"), ("openvino", "float32"),
            ("onnx", "float32"), ("litert", "int8"), ("onnx", "int8")]),
    (False, [("openvino", "float32"), ("onnx", "float32"), ("openvino", "int8"),
             ("litert", "int8"), ("onnx", "int8")]),
])
def test_what_measures_takes_the_fullest_precision(monkeypatch, half, expected):
    there = {"openvino": ("float32", "bfloat16", "int8"), "onnx": ("float32", "int8"),
             "litert": ("int8",)}
    monkeypatch.setattr(runtimes, "is_installed", lambda name: True)
    monkeypatch.setattr(runtimes, "has_bfloat16", lambda: True)
    monkeypatch.setattr(runtimes, "has_openvino_int8", lambda: True)
    assert exported_model.candidates(there, "auto", half) == expected
    assert exported_model.candidates(there, "openvino", half) == [
        ("openvino", "float32"), ("openvino", "int8")]


# --- the images a run knows -----------------------------------------------------------


def test_images_of_training_and_validation_stay_apart(made, tmp_path):  # noqa: F811
    run = run_folder.read(str(made.run))
    assert len(reference_images.training(run)) == 12
    checked, _ = reference_images.check(run)
    paths, images = reference_images.validation(run, checked)
    assert len(paths) == len(images) == 2
    assert {os.path.dirname(path) for path in paths} == {str(made.val)}
    files = [*checked, *paths, str(tmp_path / "elsewhere.png")]
    labels = reference_images.labels(run, files)
    # The tests' images carry their class in their name: img_CLASS_NUMBER.
    assert labels.tolist() == [
        *(int(os.path.basename(file).split("_")[1]) for file in files[:-1]), -1]


def test_a_long_folder_is_taken_evenly(tmp_path, monkeypatch):
    folder = write_samples(tmp_path / "many", 5)
    names = sorted(os.path.join(folder, name) for name in os.listdir(folder)
                   if name.endswith(".png"))
    monkeypatch.setattr(reference_images, "MOST_IMAGES", 3)
    found, _ = reference_images._load_spread(names, Preprocessing(32))
    assert found == [names[0], names[7], names[14]]


# --- from a file's bytes --------------------------------------------------------------


def photo(size, seed=0):
    """Smooth colours with some edges, (height, width, 3)."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (6, 8, 3), np.uint8)
    image = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
    cv2.circle(image, (size[0] // 3, size[1] // 2), min(size) // 5, (250, 20, 60), -1)
    return image


def encode(image, ending, **settings):
    import io

    file = io.BytesIO()
    Image.fromarray(image).save(file, ending, **settings)
    return file.getvalue()


@pytest.mark.parametrize("resize", ["letterbox", "crop", "stretch"])
@pytest.mark.parametrize("kind", ["wide", "tall", "tiny", "grey", "transparent", "webp", "jpeg",
                                  "large"])
def test_decoding_in_the_graph(kind, resize):
    settings = Preprocessing(64, resize, (200, 100, 50))
    image = photo({"tall": (50, 97), "tiny": (9, 5), "large": (601, 400)}.get(kind, (90, 61)))
    tolerance, mean = 1.5, 0.3  # levels; two ways to round
    if kind == "grey":
        image = image[:, :, 0]
    if kind == "transparent":
        image = np.dstack([image, np.roll(image[:, :, 1], 9, axis=1)])
    data = encode(image, "PNG")
    if kind == "webp":
        data = encode(image, "WEBP", lossless=True)
    if kind in ("jpeg", "large"):
        # Ours decodes at a reduced scale, which shows at edges.
        data, tolerance, mean = encode(image, "JPEG", quality=90), 64, 3
    found = np.asarray(graph_preprocessing.decode(data, settings)).astype(int)
    difference = np.abs(found - decoding.load(data, settings))
    assert found.shape == (64, 64, 3)
    assert difference.max() <= tolerance and difference.mean() < mean


def test_the_savedmodel_takes_files(small, made):  # noqa: F811
    """As a whole: bytes to probabilities, several at once, by plain TensorFlow."""
    import tensorflow as tf

    names = sorted(name for name in os.listdir(made.val) if name.endswith(".png"))[:5]
    data = [open(os.path.join(made.val, name), "rb").read() for name in names]
    serve = tf.saved_model.load(str(small.model)).signatures["predict_bytes"]
    found = serve(image_bytes=tf.constant(data))["output_score"].numpy()
    expected = runtimes.open_model(str(small.model), "onnx")(val_images(made)[:5]).probabilities
    assert np.abs(found - expected).max() < 0.02
    assert small.result["from_bytes"]["images"] == 18


def test_files_that_tensorflow_cannot_decode_count_for_nothing(small, made, tmp_path):  # noqa: F811
    """An animated WebP among them, for which TensorFlow would end the process."""
    good = os.path.join(made.val, "img_0_0.png")
    one, other = photo((40, 30)), photo((40, 30), seed=1)
    Image.fromarray(one).quantize(99).save(tmp_path / "palette.bmp")
    Image.fromarray(one).save(tmp_path / "one.tiff")
    Image.fromarray(one).save(tmp_path / "animated.webp", save_all=True, lossless=True,
                              append_images=[Image.fromarray(other)])
    one, two = verification.run_in_subprocess(
        str(small.model), [("savedmodel", "float32"), ("savedmodel", "bytes")],
        [good, *map(str, sorted(tmp_path.iterdir()))], Preprocessing(32),
    )
    assert np.isnan(two.probabilities[1:]).all() and not np.isnan(one.probabilities).any()
    assert np.isnan(two.similarities[1:]).all() and not np.isnan(one.similarities).any()
    assert np.abs(two.probabilities[0] - one.probabilities[0]).max() < 0.02
    assert abs(two.similarities[0] - one.similarities[0]) < 0.02
