"""Exports what several devices trained, and verifies that it runs on one.

The export is that of `save_model`. Before it is published, a fresh process that sees only one
device opens it with plain TensorFlow, without this project, and its answers are compared with
those of the trained model.
"""

import os
import subprocess
import sys
import tempfile

import numpy as np

import save_model
from common.console import show
from common.errors import RunError
from compute.backend import has_gpu, import_keras
from config.mode_options import SavePbOptions
from data.decoding import load
from export.acceptance import Limits, Proof
from export.verification import Comparison

TOLERANCE = 1e-5  # on probabilities; the same float32 sums in another order differ by less
# argv: the SavedModel, the file of images, the file for their probabilities, with similarities
SCRIPT = """
import sys
import numpy as np
import tensorflow as tf
tf.config.experimental.enable_tensor_float_32_execution(False)
folder, images_path, answers_path = sys.argv[1:]
model = tf.saved_model.load(folder)
images = np.load(images_path)
def predict(serve, part):
    outputs = serve(input_img=tf.constant(part))
    return np.concatenate([outputs[name].numpy() for name in sorted(outputs)], axis=1)
np.save(answers_path, [
    np.concatenate([
        predict(serve, images[start : start + 16]) for start in range(0, len(images), 16)
    ])
    for serve in (model.signatures[name] for name in ("serving_default", "predict_image"))
])
"""


def main(options: SavePbOptions):
    """`--mode save_pb --multigpu`."""
    run = save_model.find(options)
    import_keras()
    devices = _single_devices()

    def prove(folder, run, variants, image_paths, expected):
        return prove_on_devices(folder, run, variants, image_paths, expected, devices.values())

    result = save_model.export(run, prove=prove, limits=Limits(TOLERANCE), keep_others=True)
    where = f", in a separate process that sees only {', and only '.join(devices)}"
    show(result, lambda result: save_model.text(result, where), options.json)


def _single_devices():
    """dict of a device's name -> the value of CUDA_VISIBLE_DEVICES that shows only it."""
    devices = {"the CPU": ""}
    if has_gpu():
        devices["one GPU"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    return devices


def prove_on_devices(folder, run, variants, image_paths, expected, visible_devices):
    """Compares the SavedModel with the trained model, on one device after the other.

    Args:
        folder: str, the folder of the exported model.
        run: `run_folder.Run`.
        variants: list of one `Variant`, the SavedModel in float32.
        image_paths: list of N image files.
        expected: `Answers` of the trained model.
        visible_devices: values of CUDA_VISIBLE_DEVICES.

    Returns:
        `Proof`.

    Raises:
        RunError: the model cannot be opened or run there.
    """
    images = np.stack([load(image_path, run.preprocessing) for image_path in image_paths])
    differences = [
        largest_difference(folder, images, expected, visible) for visible in visible_devices
    ]
    difference = float(np.max(differences))  # keeps NaN
    return Proof({variants[0]: Comparison(difference)}, None, len(image_paths))


def largest_difference(folder, images, expected, visible):
    """Largest difference over both signatures, with plain TensorFlow in a fresh process.

    Args:
        folder: str, the folder of the SavedModel.
        images: uint8 (N, S, S, 3).
        expected: `Answers` of the trained model.
        visible: str, the GPUs that it sees, as CUDA_VISIBLE_DEVICES names them; "" is none.

    Returns:
        float, NaN where a probability or similarity is NaN.

    Raises:
        RunError: the model cannot be opened or run there.
    """
    with tempfile.TemporaryDirectory() as scratch_folder:
        images_path, answers_path = (
            os.path.join(scratch_folder, file_name) for file_name in ("images.npy", "answers.npy")
        )
        np.save(images_path, images)
        process = subprocess.run(
            [sys.executable, "-c", SCRIPT, os.path.abspath(folder), images_path, answers_path],
            capture_output=True,
            text=True,
            errors="replace",
            cwd=scratch_folder,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": visible, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        if process.returncode:
            error_lines = process.stderr.strip().splitlines()
            reason = error_lines[-1] if error_lines else f"status {process.returncode}"
            raise RunError(f"{folder}: not published: on one device it fails: {reason}")
        columns = [expected.probabilities]
        if expected.similarities is not None:
            columns.append(expected.similarities[:, None])
        return float(np.abs(np.load(answers_path) - np.concatenate(columns, axis=1)).max())
