"""Exports what several devices trained, and proves that it runs on one.

The export is that of `save_model`. Before it is published, a fresh process that sees one
device opens it with plain TensorFlow, without this project, and its answers are compared
with those that the training's device left in the run's check/.
"""

import os
import subprocess
import sys
import tempfile

import numpy as np

import save_model
from common.errors import RunError
from compute.backend import has_gpu, import_keras
from data.decoding import load

TOLERANCE = 1e-5  # on probabilities; the same float32 sums in another order differ by less
# argv: the SavedModel, the images, where the answers go
SCRIPT = """
import sys
import numpy as np
import tensorflow as tf
tf.config.experimental.enable_tensor_float_32_execution(False)
folder, images, answers = sys.argv[1:]
model = tf.saved_model.load(folder)
x = np.load(images)
np.save(answers, [
    np.concatenate([serve(input_img=tf.constant(x[first : first + 16]))["output_score"].numpy()
                    for first in range(0, len(x), 16)])
    for serve in (model.signatures[name] for name in ("serving_default", "predict_image"))
])
"""


def main(options):
    """`--mode save_pb --multigpu`."""
    run = save_model.find(options)
    import_keras()
    sights = {"the processor": ""}
    if has_gpu():
        sights["one GPU"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]

    def prove(folder, run, wanted, files, expected):
        images = np.stack([load(file, run.preprocessing) for file in files])
        difference = np.max(
            [  # NumPy's, which lets no NaN pass
                difference_apart(folder, images, expected, sight) for sight in sights.values()
            ]
        )
        return {"savedmodel": {"float32": {"difference": float(difference)}}}

    result = save_model.export(run, prove=prove, tolerance=TOLERANCE)
    save_model.report(
        result, options, f", in a process of its own that sees only {', and only '.join(sights)}"
    )


def difference_apart(folder, images, expected, visible):
    """Largest difference over both signatures, with plain TensorFlow in a fresh process.

    Args:
        folder: of the SavedModel.
        images: uint8 (N, S, S, 3).
        expected: float32 (N, C), the probabilities.
        visible: the GPUs that it sees, as CUDA_VISIBLE_DEVICES says it; "" is none.

    Raises:
        RunError: the model cannot be opened or run there.
    """
    with tempfile.TemporaryDirectory() as scratch:
        paths = [os.path.join(scratch, name) for name in ("images.npy", "answers.npy")]
        np.save(paths[0], images)
        process = subprocess.run(
            [sys.executable, "-c", SCRIPT, os.path.abspath(folder), *paths],
            capture_output=True,
            text=True,
            cwd=scratch,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": visible, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        if process.returncode:
            said = process.stderr.strip().splitlines() or [f"status {process.returncode}"]
            raise RunError(f"{folder}: not published: on one device it fails: {said[-1]}")
        return float(np.abs(np.load(paths[1]) - expected).max())
