"""The model in a browser: a folder for any static file server, with a page that needs no other."""

import hashlib
import json
import os
import shutil

from common.files import checksum, write_text
from export import web_package
from pages.languages import TAGS
from pages.rendering import FOLDER as PAGES_FOLDER
from pages.rendering import render
from prediction import calibration
from prediction.runtimes import INPUT, OUTPUT, SIMILARITY

FORMAT = "web"
FOLDER = "web"  # in the folder of an exported model
MODEL, SETTINGS, OFFLINE = "model.onnx", "classifier.json", "offline.js"
FILES = dict.fromkeys(("float32", "float16", "int8"), f"{FOLDER}/{MODEL}")  # by precision
SCRIPTS = (
    "classifier.js",
    "preprocessing.js",
    "preprocessing_worker.js",
    "jpeg.js",
    "jpeg_scans.js",
)
PAGES = {"en": "index.html", "zh": "zh.html"}
# What a page may load: its own files, and WebAssembly made of them.
POLICY = {
    "connect_src": "'self'",
    "img_src": "blob: data:",
    "script_src": "'self' 'wasm-unsafe-eval'",
    "worker_src": "'self'",
}


def write(folder, onnx_path, package_path, run, fitted):
    """Writes the folder of the page.

    Args:
        folder: str, the folder of the exported model, which has no folder `web` yet.
        onnx_path: str, the ONNX file that the page opens.
        package_path: str, what `web_package.fetch` returned.
        run: `run_folder.Run`, of which labels, preprocessing and name count.
        fitted: `calibration.Calibration`, or None.
    """
    web_folder = os.path.join(folder, FOLDER)
    os.mkdir(web_folder)
    web_package.extract(package_path, web_folder)
    shutil.copyfile(onnx_path, os.path.join(web_folder, MODEL))
    for script_name in SCRIPTS:
        shutil.copyfile(_source(script_name), os.path.join(web_folder, script_name))
    preprocessing = run.preprocessing
    settings = {
        "model": os.path.basename(os.path.abspath(run.path)),
        "file": MODEL,
        "input": INPUT,
        "outputs": {"probabilities": OUTPUT, "similarity": SIMILARITY},
        "preprocessing": {
            "size": preprocessing.size,
            "resize": preprocessing.resize,
            "fill_color": list(preprocessing.fill_color),
        },
        "labels": list(run.class_names),
        "calibration": _calibration(fitted, run.class_names),
    }
    _write_settings(web_folder, settings)
    for language in PAGES:
        _write_page(web_folder, language, settings["model"])
    _write_offline(web_folder)


def update_calibration(folder, fitted, class_names):
    """Gives the page another calibration, where an exported model has a page.

    Args:
        folder: str, the folder of the exported model.
        fitted: `calibration.Calibration`.
        class_names: names of the classes, in the order of their ids.

    Returns:
        dict of file name -> checksum, the files that have changed, as model.json has them.
    """
    web_folder = os.path.join(folder, FOLDER)
    if not os.path.isdir(web_folder):
        return {}
    with open(os.path.join(web_folder, SETTINGS), encoding="utf-8") as json_file:
        settings = json.load(json_file)
    _write_settings(web_folder, {**settings, "calibration": _calibration(fitted, class_names)})
    _write_offline(web_folder)
    return {
        f"{FOLDER}/{file_name}": checksum(os.path.join(web_folder, file_name))
        for file_name in (SETTINGS, OFFLINE)
    }


def _source(script_name):
    return os.path.join(PAGES_FOLDER, "web", script_name)


def _calibration(fitted, class_names):
    """What the page needs of a calibration, as JSON holds it."""
    if fitted is None:
        return None
    description = calibration.describe(fitted, class_names)
    return {name: description[name] for name in ("temperature", "thresholds", "familiarity")}


def _write_settings(web_folder, settings):
    write_text(
        os.path.join(web_folder, SETTINGS),
        json.dumps(settings, ensure_ascii=False, indent=1) + "\n",
    )


def _write_page(web_folder, language, model_name):
    other_language = next(other for other in PAGES if other != language)
    total_size = sum(
        os.path.getsize(os.path.join(web_folder, file_name)) for file_name in os.listdir(web_folder)
    )
    is_first = language == next(iter(PAGES))
    page_html = render(
        "web.html",
        language,
        POLICY,
        model=model_name,
        megabytes=round(total_size / 1e6),
        other_page=PAGES[other_language] + ("" if is_first else "#here"),
        other_language=TAGS[other_language],
        page_by_language=is_first,
    )
    write_text(os.path.join(web_folder, PAGES[language]), page_html)


def _write_offline(web_folder):
    """The service worker: a new one whenever any other file has changed."""
    file_names = sorted(set(os.listdir(web_folder)) - {OFFLINE, web_package.LICENSE})
    checksums = [checksum(os.path.join(web_folder, file_name)) for file_name in file_names]
    with open(_source(OFFLINE), encoding="utf-8") as script_file:
        script = script_file.read()
    version = hashlib.sha256("".join([script, *checksums]).encode()).hexdigest()[:16]
    heading = f"const CACHE = {json.dumps(version)}, FILES = {json.dumps(file_names)};\n"
    write_text(os.path.join(web_folder, OFFLINE), heading + script)
