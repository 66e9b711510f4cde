"""`--format web` from the command to the proof in Chromium; the npm package and its mirror."""

import hashlib
import io
import json
import os
import shutil
import tarfile
from types import SimpleNamespace

import numpy as np
import pytest
import web_folder
from browser import needs_chromium
from conftest import ROOT, write_image
from test_export import FEW_BLOCKS, go, made  # noqa: F401, a fixture
from web_server import serving

import efficientnet.model as network
from common.errors import InputError, RunError
from data.decoding import load
from data.geometry import Preprocessing
from export import browser as browsers
from export import formats, web, web_package, web_proof
from export.acceptance import DEFAULT_LIMITS
from export.formats import Variant
from export.verification import Comparison
from prediction.classifier import Classifier

# --- what is planned ----------------------------------------------------------------------


@pytest.fixture
def some_browser(monkeypatch):
    monkeypatch.setattr(formats, "find_browser", lambda: "chromium")
    monkeypatch.setattr(formats.runtimes, "has_openvino_int8", lambda: True)


@pytest.mark.parametrize("named, quantize, planned", [
    (("web",), ("none",), [("onnx", "float32"), ("web", "float32")]),
    (("onnx", "web"), ("none", "fp16"),
     [("onnx", "float32"), ("onnx", "float16"), ("web", "float16")]),
    (("web", "openvino"), ("fp16", "int8"),
     [("openvino", "float16"), ("openvino", "int8"), ("onnx", "int8"), ("web", "int8")]),
    (("savedmodel",), ("none",), [("savedmodel", "float32")]),
])
def test_a_page_has_the_smallest_precision_and_its_file(some_browser, named, quantize, planned):
    assert formats.plan(named, quantize, True) == [Variant(*pair) for pair in planned]


def test_without_a_browser_one_line_says_what_to_do(monkeypatch):
    monkeypatch.setattr(browsers.shutil, "which", lambda name: None)
    monkeypatch.setattr(browsers, "PLACES", ())
    with pytest.raises(InputError, match="no Chromium was found.*apt-get install chromium"):
        formats.plan(("web",), ("none",), True)


@pytest.mark.parametrize("pixels, agreement, problem", [
    (1.5, 0.995, ""), (1.51, 1.0, "1.51 levels in the mean, allowed is 1.5"),
    (float("nan"), 1.0, "levels"), (0.1, 0.99, "99.00% of the images, the minimum is 99.50%"),
])
@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_limits(precision, pixels, agreement, problem):
    comparison = Comparison(0.3, agreement, pixels=pixels)
    found = DEFAULT_LIMITS.problem(precision, comparison)
    assert problem in found and bool(problem) == bool(found)


# --- the package --------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A mirror's folder with a package of the same files, which is the expected one."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name in (*web_package.FILES, "ort.webgl.min.mjs"):
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(name)
            archive.addfile(member, io.BytesIO(name.encode()))
    folder = tmp_path / "registry" / "onnxruntime-web" / "-"
    folder.mkdir(parents=True)
    (folder / web_package.FILE_NAME).write_bytes(content.getvalue())
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(web_package, "SHA512", hashlib.sha512(content.getvalue()).hexdigest())
    for name in (web_package.VARIABLE, web_package.VARIABLE.upper()):
        monkeypatch.delenv(name, raising=False)
    return SimpleNamespace(mirror=tmp_path / "registry", content=content.getvalue(),
                           cached=tmp_path / "keras" / "models" / web_package.FILE_NAME)


@pytest.mark.parametrize("variable", ["npm_config_registry", "NPM_CONFIG_REGISTRY"])
def test_it_comes_once_from_the_mirror_of_npm(package, tmp_path, monkeypatch, variable):
    with serving(package.mirror) as server:
        monkeypatch.setenv(variable, server.url + "/")
        assert web_package.fetch() == str(package.cached) == web_package.fetch()
        assert server.asked == [f"/onnxruntime-web/-/{web_package.FILE_NAME}"]
        package.cached.write_bytes(b"damaged")
        web_package.fetch()
        assert len(server.asked) == 2 and package.cached.read_bytes() == package.content
    web_package.extract(str(package.cached), str(tmp_path))
    for packed_name, name in web_package.FILES.items():
        assert (tmp_path / name).read_text() == packed_name
    license_text = (tmp_path / web_package.LICENSE).read_text()
    assert "MIT License" in license_text and web_package.VERSION in license_text
    assert not (tmp_path / "ort.webgl.min.mjs").exists()


def test_another_file_is_refused(package, monkeypatch):
    monkeypatch.setattr(web_package, "SHA512", "0" * 128)
    with serving(package.mirror) as server:
        monkeypatch.setenv(web_package.VARIABLE, server.url)
        with pytest.raises(RunError, match="--format web: http://127.*by its checksum; set the "
                                           "environment variable npm_config_registry"):
            web_package.fetch()
    assert os.listdir(package.cached.parent) == []


def test_the_address_is_that_of_the_public_registry(package, monkeypatch):
    asked = []
    monkeypatch.setattr(web_package, "download", lambda address, *more: asked.append(address))
    web_package.fetch()
    assert asked == [
        "https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-1.30.0.tgz"]


# --- the proof, with a stand-in for the network -------------------------------------------


@pytest.fixture
def photos(tmp_path):
    paths = []
    for number, color in enumerate([(220, 30, 30), (30, 200, 60), (40, 60, 220)]):
        paths.append(str(tmp_path / f"{number}.jpg"))
        write_image(paths[-1], color, (48, 30), number)
    return paths


@needs_chromium
def test_the_proof_sees_what_the_page_computes(tmp_path, monkeypatch, photos):
    folder = web_folder.write(monkeypatch, tmp_path / "model")
    (tmp_path / "scan.tif").write_bytes(b"II*\0 no browser reads it")
    paths = [photos[0], str(tmp_path / "scan.tif"), *photos[1:]]
    found = web_proof.predict(folder, paths, 3, web_folder.SIZE)
    assert found.decoded == [0, 2, 3] and found.pixels.shape == (3, 16, 16, 3)
    preprocessing = Preprocessing(web_folder.SIZE, "letterbox")
    assert web_proof.pixel_difference(found.pixels, photos, preprocessing) < 0.6
    sums = found.pixels.reshape(3, -1, 3).sum(axis=1)
    shares = sums / sums.sum(axis=1, keepdims=True)
    assert np.abs(found.answers.probabilities - shares).max() < 1e-6
    assert np.abs(found.answers.similarities - (shares[:, 0] - 0.5)).max() < 1e-6


def test_the_pixel_difference_by_hand(photos):
    preprocessing = Preprocessing(16, "letterbox")
    pixels = np.stack([load(path, preprocessing) for path in photos])
    pixels[1] = np.where(pixels[1] > 128, pixels[1] - 3, pixels[1] + 3)  # never wraps around
    assert web_proof.pixel_difference(pixels, photos, preprocessing) == pytest.approx(1.0)


@needs_chromium
def test_a_page_that_fails_is_said(tmp_path, monkeypatch, photos):
    folder = web_folder.write(monkeypatch, tmp_path / "model")
    (tmp_path / "model" / "web" / "model.onnx").unlink()
    with pytest.raises(RunError, match="the page fails in a browser: Error: no model"):
        web_proof.predict(folder, photos, 3, web_folder.SIZE)


@needs_chromium
def test_no_image_that_a_browser_decodes(tmp_path, monkeypatch):
    folder = web_folder.write(monkeypatch, tmp_path / "model")
    (tmp_path / "scan.tif").write_bytes(b"II*\0 no browser reads it")
    with pytest.raises(RunError, match="the browser can decode none of the images"):
        web_proof.predict(folder, [str(tmp_path / "scan.tif")], 3, web_folder.SIZE)


def test_a_browser_that_ends_at_once(tmp_path, monkeypatch, photos):
    monkeypatch.setattr(browsers, "find_browser", lambda: shutil.which("true"))
    folder = web_folder.write(monkeypatch, tmp_path / "model")
    with pytest.raises(RunError, match="the browser ended with status 0 before it answered"):
        web_proof.predict(folder, photos, 3, web_folder.SIZE)


# --- the whole way ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_package():
    try:
        return web_package.fetch()
    except RunError as error:
        pytest.skip(str(error))


@pytest.fixture
def exported(made, tmp_path, real_package):  # noqa: F811
    run_path = shutil.copytree(made.run, tmp_path / "runs" / "tiny")

    def export(*words):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(network, "STAGES", FEW_BLOCKS)
            return go("--mode", "export", "--run", run_path, "--format", "web", *words)

    return SimpleNamespace(run=run_path, model=run_path / "model", export=export)


@needs_chromium
@pytest.mark.training
def test_the_real_network_in_the_browser_answers_as_python(exported, made):  # noqa: F811
    result = exported.export("--quantize", "fp16", "--json")
    assert result.status == 0, result.err
    table = json.loads(result.out)["formats"]
    assert table.keys() == {"onnx", "web"} and table["web"].keys() == {"float16"}
    figures = table["web"]["float16"]
    assert figures["agreement"] == 1 and figures["pixels"] < 0.5
    assert json.loads((exported.model / "model.json").read_text())["formats"] == table
    onnx_bytes = (exported.model / "model.float16.onnx").read_bytes()
    assert (exported.model / "web" / "model.onnx").read_bytes() == onnx_bytes
    classifier = Classifier.load(str(exported.run))  # the checksums, too
    paths = sorted(str(path) for path in (exported.run / "check").glob("*.png"))
    found = web_proof.predict(str(exported.model / "web"), paths, 3, 32)
    own = classifier.probabilities(np.stack([load(path, classifier.preprocessing)
                                             for path in paths]))
    assert np.abs(found.answers.probabilities - own).max() < 0.02
    assert os.path.getsize(exported.model / "web" / "onnxruntime.wasm") > 10**7
    assert {"web/index.html", "web/onnxruntime.wasm", "self_test/vectors.json"} <= set(
        json.loads((exported.model / "model.json").read_text())["files"])


@needs_chromium
@pytest.mark.training
def test_wrong_pixels_are_not_published(exported, monkeypatch, tmp_path):
    """Blue where red belongs."""
    with open(os.path.join(ROOT, "pages", "web", "preprocessing.js"), encoding="utf-8") as file:
        script = file.read()
    broken = tmp_path / "preprocessing.js"
    right, wrong = "+ first * channels + i]", "+ first * channels + 2 - i]"
    assert right in script
    broken.write_text(script.replace(right, wrong), encoding="utf-8")
    source = web._source
    monkeypatch.setattr(web, "_source", lambda name: (
        str(broken) if name == "preprocessing.js" else source(name)))
    before = (exported.model / "model.json").read_bytes()
    result = exported.export()
    assert result.status == 1 and "not published: web in float32 makes pixels" in result.err
    assert (exported.model / "model.json").read_bytes() == before


@needs_chromium
@pytest.mark.training
def test_calibrating_and_save_pb_keep_the_page_whole(exported, made):  # noqa: F811
    assert exported.export().status == 0
    result = go("--mode", "calibrate", "--run", exported.run, "--data", made.val)
    assert result.status == 0, result.err
    settings = json.loads((exported.model / "web" / "classifier.json").read_text())
    own = json.loads((exported.model / "model.json").read_text())["calibration"]
    assert settings["calibration"] == {
        key: own[key] for key in ("temperature", "thresholds", "familiarity")}
    Classifier.load(str(exported.model))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "STAGES", FEW_BLOCKS)
        assert go("--mode", "save_pb", "--run", exported.run).status == 0
    assert (exported.model / "web" / "onnxruntime.js").exists()
    assert set(json.loads((exported.model / "model.json").read_text())["formats"]) == {
        "savedmodel", "onnx", "web"}
    Classifier.load(str(exported.model))
