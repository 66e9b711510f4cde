"""What computes an exported model: TensorFlow, ONNX Runtime, OpenVINO or LiteRT.

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

from common.cpu import usable
from common.errors import InputError
from prediction import telemetry  # noqa: F401  before any runtime

INPUT, OUTPUT = "input_img", "output_score"
BYTES = "image_bytes"  # input of the SavedModel's signature that takes files as they are
BATCHES = (1, 2, 4, 8, 16, 32)  # sizes that OpenVINO compiles a model for, when first needed


class Runtime(NamedTuple):
    """A runtime.

    Attributes:
        module: what it imports.
        package: what to install for it.
        files: dict of precision -> its file in the exported folder. OpenVINO reads ONNX's, too,
            and computes in bfloat16 what is stored in float32.
        open: function (folder, precision) -> predict.
    """

    module: str
    package: str
    files: dict
    open: object


def open_savedmodel(folder, precision="float32"):
    """TensorFlow, with the SavedModel."""
    return signatures(folder)["serving_default"]


def signatures(folder):
    """dict of the SavedModel's signatures -> predict.

    That of `predict_bytes` takes a list of files' bytes.
    """
    from compute.backend import import_keras

    import_keras()
    import tensorflow as tf

    tf.config.experimental.enable_tensor_float_32_execution(False)  # it is compared with others
    loaded = tf.saved_model.load(folder)

    def predict(serve, taken, x, keep=loaded):  # the signature alone would let its variables go
        return serve(**{taken: tf.constant(x)})[OUTPUT].numpy()

    return {
        name: functools.partial(predict, serve, *serve.structured_input_signature[1])
        for name, serve in loaded.signatures.items()
    }


def open_onnx(folder, precision="float32"):
    """ONNX Runtime, on the processor."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(
        path_of(folder, "onnx", precision), settings, providers=["CPUExecutionProvider"]
    )
    return lambda x: session.run([OUTPUT], {INPUT: x})[0]


_core_lock = threading.Lock()


def core():
    """OpenVINO's `Core`, the only one of this process and as long as it lives.

    For processors with AMX its plugin gives the thread that loads it another stack for signals,
    and unmaps that when it goes. Of two plugins the second puts back the stack of the first: if
    that has gone, the next signal that Python handles ends the process with a segmentation fault.
    """
    with _core_lock:  # what is only cached is made once a thread when several ask at a time
        return _core()


@functools.cache
def _core():
    import openvino

    return openvino.Core()


@functools.cache
def _streams():
    """Parts that a batch is computed in at once, each on as many threads: a power of two.

    OpenVINO knows its threads (one a real core, none on slow ones) when it has compiled a model.
    """
    import openvino
    from openvino import opset1

    nothing = opset1.parameter([1])
    threads = (
        core()
        .compile_model(openvino.Model([nothing], [nothing]), "CPU")
        .get_property("INFERENCE_NUM_THREADS")
    )
    return threads & -threads


class open_openvino:
    """OpenVINO, on the processor, for batches of fixed sizes: twice as fast as for any size.

    A batch is filled up to the next size with a copy of its last image, and split beyond the
    largest. Its images are shared out among groups of threads that do not wait for each other at
    each layer: a tenth faster, and a quarter where the cores are busy with something else as well.
    Models for larger batches are compiled when the first such batch comes.
    """

    def __init__(self, folder, precision="float32"):
        self.model = core().read_model(path_of(folder, "openvino", precision))
        # OpenVINO computes in bfloat16 by itself where the processor does.
        hint = "bf16" if precision == "bfloat16" else "f32"
        self.settings = {"INFERENCE_PRECISION_HINT": hint}
        self.compiled = {}
        self.lock = threading.Lock()
        self.local = threading.local()  # a request serves one thread at a time

    def __call__(self, x):
        rows = [
            self._batch(x[first : first + BATCHES[-1]]) for first in range(0, len(x), BATCHES[-1])
        ]
        return rows[0] if len(rows) == 1 else np.concatenate(rows)

    def _batch(self, x):
        count = len(x)
        size = next(size for size in BATCHES if size >= count)
        if size > count:
            x = np.concatenate([x, np.repeat(x[-1:], size - count, axis=0)])
        x = np.ascontiguousarray(x)
        requests = self._requests(size)
        if size == 1:  # sooner done in this thread
            return requests[0].infer({0: x}, share_inputs=True)[0]
        parts = np.split(x, len(requests))
        for request, part in zip(requests, parts):
            request.start_async({0: part}, share_inputs=True)
        for request in requests:
            request.wait()
        return np.concatenate([request.get_output_tensor().data for request in requests])[:count]

    def _requests(self, size):
        """This thread's requests for a batch of a size, one for each of its parts."""
        requests = self.local.__dict__.setdefault("requests", {})
        if size not in requests:
            parts = 1 if size == 1 else min(size, _streams())
            model = self._compile(size, parts)
            requests[size] = [model.create_infer_request() for _ in range(parts)]
        return requests[size]

    def _compile(self, size, parts):
        with self.lock:
            if size not in self.compiled:
                model = self.model.clone()
                model.reshape([size // parts, *list(model.input(0).partial_shape)[1:]])
                self.compiled[size] = core().compile_model(
                    model, "CPU", {**self.settings, "NUM_STREAMS": parts}
                )
            return self.compiled[size]


class open_litert:
    """LiteRT (TensorFlow Lite), on the processor; one thread at a time."""

    def __init__(self, folder, precision="float32"):
        from ai_edge_litert.interpreter import Interpreter

        self.interpreter = Interpreter(path_of(folder, "litert", precision), num_threads=usable())
        self.taken = self.interpreter.get_input_details()[0]["index"]
        self.given = self.interpreter.get_output_details()[0]["index"]
        self.shape = None
        self.lock = threading.Lock()

    def __call__(self, x):
        with self.lock:
            if x.shape != self.shape:
                self.interpreter.resize_tensor_input(self.taken, x.shape)
                self.interpreter.allocate_tensors()
                self.shape = x.shape
            self.interpreter.set_tensor(self.taken, x)
            self.interpreter.invoke()
            return self.interpreter.get_tensor(self.given)


RUNTIMES = {
    "openvino": Runtime(
        "openvino",
        "openvino",
        {
            "float32": "model.xml",
            "bfloat16": "model.xml",
            "float16": "model.float16.onnx",
            "int8": "model.int8.onnx",
        },
        open_openvino,
    ),
    "onnx": Runtime(
        "onnxruntime",
        "onnxruntime",
        {"float32": "model.onnx", "float16": "model.float16.onnx", "int8": "model.int8.onnx"},
        open_onnx,
    ),
    "litert": Runtime(
        "ai_edge_litert",
        "ai-edge-litert",
        {"float32": "model.tflite", "float16": "model.float16.tflite", "int8": "model.int8.tflite"},
        open_litert,
    ),
    "savedmodel": Runtime(
        "tensorflow", "tensorflow", {"float32": "saved_model.pb"}, open_savedmodel
    ),
}
# The fastest on a processor first: docs/benchmarks.md. ONNX Runtime's int8 is the slowest of all
# but the SavedModel, and there for its size.
FASTEST = (
    ("openvino", "int8"),
    ("openvino", "bfloat16"),
    ("openvino", "float32"),
    ("openvino", "float16"),
    ("onnx", "float32"),
    ("onnx", "float16"),
    ("litert", "int8"),
    ("litert", "float32"),
    ("litert", "float16"),
    ("onnx", "int8"),
    ("savedmodel", "float32"),
)


def path_of(folder, name, precision):
    """Path of the file that a runtime opens for a precision."""
    return os.path.join(folder, RUNTIMES[name].files[precision])


def size(folder, name, precision):
    """Bytes of all files that a runtime needs for a precision."""
    path = path_of(folder, name, precision)
    others = []
    if name == "savedmodel":
        variables = os.path.join(folder, "variables")
        others = [os.path.join(variables, file) for file in os.listdir(variables)]
    elif path.endswith(".xml"):
        others = [os.path.splitext(path)[0] + ".bin"]
    return sum(os.path.getsize(each) for each in [path, *others])


def is_installed(name):
    """Whether a runtime's module is there; it is not imported."""
    return importlib.util.find_spec(RUNTIMES[name].module) is not None


@functools.cache
def has_bfloat16():
    """Whether OpenVINO computes in bfloat16 on this processor (AMX, AVX-512 BF16)."""
    if not is_installed("openvino"):
        return False
    try:
        return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
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
            f"{path_of(folder, name, precision)}: cannot be opened: {reason}"
        ) from None
