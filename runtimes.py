"""What computes an exported model: TensorFlow, ONNX Runtime or OpenVINO.

A runtime opens its own file of the exported folder and gives a function from uint8
(N, S, S, 3) to float32 (N, C), which several threads may call at once. Only TensorFlow's
imports TensorFlow.
"""

import functools
import importlib.util
import os
import threading
from typing import NamedTuple

import numpy as np

from errors import InputError

INPUT, OUTPUT = "input_img", "output_score"
# On probabilities, between the trained model and a runtime on whatever machine; half precision
# is judged by its agreement, and the self-test only finds what is broken.
SELF_TEST_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1}
BATCHES = (1, 2, 4, 8, 16, 32)  # sizes that OpenVINO compiles a model for, when first needed


class Runtime(NamedTuple):
    """A runtime.

    Attributes:
        module: what it imports.
        package: what to install for it.
        file: of the exported folder, by which it is there.
        open: function (folder, precision) -> predict.
        precisions: that it can be asked to compute in.
    """

    module: str
    package: str
    file: str
    open: object
    precisions: tuple = ("float32",)


def open_savedmodel(folder, precision="float32"):
    """TensorFlow, with the SavedModel."""
    return signatures(folder)["serving_default"]


def signatures(folder):
    """dict of the SavedModel's signatures -> predict."""
    from backend import import_keras

    import_keras()
    import tensorflow as tf

    tf.config.experimental.enable_tensor_float_32_execution(False)  # it is compared with others
    loaded = tf.saved_model.load(folder)

    def predict(serve, x, keep=loaded):  # the signature alone would let its variables go
        return serve(**{INPUT: tf.constant(x)})[OUTPUT].numpy()

    return {name: functools.partial(predict, serve) for name, serve in loaded.signatures.items()}


def open_onnx(folder, precision="float32"):
    """ONNX Runtime, on the processor."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(
        os.path.join(folder, RUNTIMES["onnx"].file), settings, providers=["CPUExecutionProvider"]
    )
    return lambda x: session.run([OUTPUT], {INPUT: x})[0]


class open_openvino:
    """OpenVINO, on the processor, for batches of fixed sizes: twice as fast as for any size.

    A batch is filled up to the next size with a copy of its last image, and split beyond the
    largest. Models for larger batches are compiled when the first such batch comes.
    """

    def __init__(self, folder, precision="float32"):
        import openvino

        self.core = openvino.Core()
        self.model = self.core.read_model(os.path.join(folder, RUNTIMES["openvino"].file))
        # OpenVINO computes in bfloat16 by itself where the processor does.
        hint = {"float32": "f32", "bfloat16": "bf16"}[precision]
        self.settings = {"INFERENCE_PRECISION_HINT": hint}
        self.compiled = {}
        self.lock = threading.Lock()
        self.local = threading.local()  # a request serves one thread at a time

    def __call__(self, x):
        rows = [self._batch(x[first : first + BATCHES[-1]])
                for first in range(0, len(x), BATCHES[-1])]
        return rows[0] if len(rows) == 1 else np.concatenate(rows)

    def _batch(self, x):
        count = len(x)
        size = next(size for size in BATCHES if size >= count)
        if size > count:
            x = np.concatenate([x, np.repeat(x[-1:], size - count, axis=0)])
        requests = self.local.__dict__.setdefault("requests", {})
        if size not in requests:
            requests[size] = self._compile(size).create_infer_request()
        answer = requests[size].infer({0: np.ascontiguousarray(x)}, share_inputs=True)
        return answer[0][:count]

    def _compile(self, size):
        with self.lock:
            if size not in self.compiled:
                model = self.model.clone()
                model.reshape([size, *list(model.input(0).partial_shape)[1:]])
                self.compiled[size] = self.core.compile_model(model, "CPU", self.settings)
            return self.compiled[size]


# The fastest on a processor first: docs/benchmarks.md
RUNTIMES = {
    "openvino": Runtime("openvino", "openvino", "model.xml", open_openvino,
                        ("float32", "bfloat16")),
    "onnx": Runtime("onnxruntime", "onnxruntime", "model.onnx", open_onnx),
    "savedmodel": Runtime("tensorflow", "tensorflow", "saved_model.pb", open_savedmodel),
}


def is_installed(name):
    """Whether a runtime's module is there; it is not imported."""
    return importlib.util.find_spec(RUNTIMES[name].module) is not None


@functools.cache
def has_bfloat16():
    """Whether OpenVINO computes in bfloat16 on this processor (AMX, AVX-512 BF16)."""
    if not is_installed("openvino"):
        return False
    try:
        import openvino

        return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except Exception:  # installed but broken; opening it says why
        return False


def open_model(folder, name, precision="float32"):
    """A function from uint8 (N, S, S, 3) to float32 (N, C).

    Args:
        folder: of the exported model.
        name: a key of `RUNTIMES`.
        precision: one of the runtime's.

    Raises:
        InputError: the runtime is not installed, or its file cannot be opened.
    """
    runtime = RUNTIMES[name]
    try:
        return runtime.open(folder, precision)
    except ModuleNotFoundError:
        raise InputError(
            f"--runtime: {name}: {runtime.module} is not installed; pip install {runtime.package}"
        ) from None
    except Exception as error:  # each has errors of its own
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(
            f"{os.path.join(folder, runtime.file)}: cannot be opened: {reason}"
        ) from None
