"""What an exported model costs: one image, a folder, a cold start.

    python -m benchmarks.inference --data DIR [--backbone EfficientNetB0]

Makes a run of random weights (their values do not change the time), exports it for
TensorFlow, ONNX Runtime and OpenVINO, and measures on this machine:

speedup_float32  the SavedModel's time for one image over OpenVINO's, both in float32
speedup_batch1   the SavedModel's time for one image over that of what `auto` takes (goal 3; with
                 AMX 5)
folder_ratio     images per second of `Classifier.stream` on the photos in DIR over those of
                 decoding and the bare runtime back to back, two threads (goal 0.9)
cold_seconds     `run.py --mode predict` of one image from the exported folder, whole process
                 (goal 1)
cold_megabytes   its memory (goal 200)
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from data.decoding import load
from data.image_files import find_images
from prediction import runtimes
from prediction.classifier import Classifier
from runs import run_folder

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BATCH, THREADS, ROUNDS = 16, 2, 3
FORMATS = ("savedmodel", "onnx", "openvino")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="folder of photos, or of folders of them")
    parser.add_argument("--backbone", default="EfficientNetB0")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    patterns = [os.path.join(arguments.data, "**", "*.jpg")]
    found = {}
    with tempfile.TemporaryDirectory() as place:
        photos = find_images(patterns)
        folder = export(arguments.backbone, photos, place)
        found["bfloat16"] = runtimes.has_bfloat16()
        found.update(one_image(folder, photos[0]))
        found.update(whole_folder(folder, photos))
        found.update(cold(folder, photos[0]))
    if arguments.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:<24}{value:.4g}" if isinstance(value, float) else f"{name:<24}{value}")


def export(backbone, photos, place):
    """The exported folder of a run of random weights, made in a process of its own."""
    script = f"""
import json, os, shutil
import numpy as np
import save_model
from common.files import write_text
from compute.backend import import_keras
from config.parser import parse
from data.decoding import load
from export.acceptance import Limits
from export.formats import Variant
from modeling import backbones
from runs import run_folder
import_keras()
from modeling.builder import build_model
given = parse("train", ["--backbone", {backbone!r}, "--val_data", {place!r}, "--drop_connect", "0"])
known = backbones.find({backbone!r})
given = given._replace(input_size=known.input_size, dropout=known.dropout)
path = os.path.join({place!r}, "run")
run_folder.create(path, given, [str(n) for n in range(6)], False)
model = build_model(run_folder.architecture(given), classes=6)
model.save_weights(os.path.join(path, run_folder.BEST))
photos = {photos[:128]!r}
check = os.path.join(path, run_folder.CHECK)
os.makedirs(check)
settings = run_folder.preprocessing(given)
rows = np.asarray(model.predict_on_batch(np.stack([load(photo, settings) for photo in photos])))
table = {{}}
for number, (photo, row) in enumerate(zip(photos, rows)):
    name = f"{{number}}.jpg"
    shutil.copyfile(photo, os.path.join(check, name))
    table[name] = [float(value) for value in row]
write_text(os.path.join(check, run_folder.CHECK_FILE), json.dumps(table))
# Random weights put classes so close together that rounding decides: agreement means nothing.
variants = [Variant(name, "float32") for name in {FORMATS}]
save_model.export(run_folder.read(path), variants, limits=Limits(min_agreement=0))
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, stdout=sys.stderr)
    return os.path.join(place, "run", run_folder.MODEL)


def milliseconds(predict, x, rounds=40):
    for _ in range(3):
        predict(x)
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        predict(x)
        times.append(time.perf_counter() - began)
    return float(np.median(times) * 1000)


def one_image(folder, photo):
    """Time for one image, by each runtime and by what `auto` takes."""
    found, automatic = {}, Classifier.load(folder, allow_low_precision=True)
    x = load(photo, automatic.preprocessing)[None]
    found["auto"] = " ".join(automatic.runtime)
    found["auto_ms"] = milliseconds(automatic.probabilities, x)
    for name in FORMATS:
        loaded = Classifier.load(folder, runtime=name)
        found[f"{name}_ms"] = milliseconds(loaded.probabilities, x)
        if name != "savedmodel":
            many = np.repeat(x, BATCH, axis=0)
            batch = milliseconds(loaded.probabilities, many, 10)
            found[f"{name}_batch_per_s"] = BATCH * 1000 / batch
    found["speedup_float32"] = found["savedmodel_ms"] / found["openvino_ms"]
    found["speedup_batch1"] = found["savedmodel_ms"] / found["auto_ms"]
    return found


def whole_folder(folder, photos):
    """Images a second through `stream`, against decoding first and predicting then."""
    loaded = Classifier.load(folder, allow_low_precision=True)
    for _ in loaded.stream(photos[:64], BATCH, THREADS):  # compiles the batches' size
        pass
    through, apart = [], []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        count = sum(1 for _ in loaded.stream(photos, BATCH, THREADS))
        through.append(count / (time.perf_counter() - began))
        began = time.perf_counter()
        with ThreadPoolExecutor(THREADS) as pool:
            images = list(pool.map(lambda path: load(path, loaded.preprocessing), photos))
        for first in range(0, len(images), BATCH):
            loaded.probabilities(np.stack(images[first : first + BATCH]))
        apart.append(count / (time.perf_counter() - began))
    return {
        "folder_per_s": max(through),
        "back_to_back_per_s": max(apart),
        "folder_ratio": max(through) / max(apart),
    }


def cold(folder, photo):
    """Seconds and peak memory of a whole `run.py --mode predict`."""
    script = (
        "import resource, subprocess, sys, time\n"
        "began = time.perf_counter()\n"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)\n"
        "seconds = time.perf_counter() - began\n"
        "print(seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)"
    )
    words = [sys.executable, "run.py", "--mode", "predict", "--run", folder, "--image", photo]
    runs = [
        subprocess.run(
            [sys.executable, "-c", script, *words],
            check=True,
            cwd=ROOT,
            capture_output=True,
            text=True,
        ).stdout.split()
        for _ in range(3)
    ]
    best = min(runs, key=lambda each: float(each[0]))
    return {"cold_seconds": float(best[0]), "cold_megabytes": float(best[1])}


if __name__ == "__main__":
    main()
