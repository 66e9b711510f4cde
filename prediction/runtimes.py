"""The runtimes that compute an exported model: TensorFlow, ONNX Runtime, OpenVINO and LiteRT.

Each opens its own file of the exported folder and returns a function from uint8
(N, S, S, 3) to float32 (N, C) that several threads may call at once. Only the SavedModel's
imports TensorFlow.
"""

import functools
import importlib.util
import os
import threading
from typing import NamedTuple

import numpy as np

from common.cpu import usable_cores
from common.errors import InputError
from prediction import telemetry  # noqa: F401  before any runtime

INPUT, OUTPUT = "input_img", "output_score"
BYTES = "image_bytes"  # input of the SavedModel's signature that takes files as they are
BATCH_SIZES = (1, 2, 4, 8, 16, 32)  # OpenVINO compiles a model for each, when first needed


class Runtime(NamedTuple):
    """A runtime.

    Attributes:
        module: str, the module that it imports.
        package: str, the package to install for it.
        files: dict of precision -> its file in the exported folder. OpenVINO reads ONNX's, too,
            and computes in bfloat16 what is stored in float32.
        open: function (folder, precision) -> predict.
    """

    module: str
    package: str
    files: dict
    open: object


def open_savedmodel(folder, precision="float32"):
    """Opens the SavedModel with TensorFlow, on a GPU where there is one.

    Args:
        folder: str, the folder of the exported model.
        precision: "float32", the only one.

    Returns:
        function from uint8 (N, S, S, 3) to float32 (N, C).
    """
    return signatures(folder)["serving_default"]


def signatures(folder):
    """Opens all signatures of the SavedModel.

    Args:
        folder: str, the folder of the exported model.

    Returns:
        dict of signature -> function. Those of "serving_default" and "predict_image" take uint8
        (N, S, S, 3), that of "predict_bytes" takes a list of the bytes of image files.
    """
    from compute.backend import import_keras

    import_keras()
    import tensorflow as tf

    tf.config.experimental.enable_tensor_float_32_execution(False)  # it is compared with others
    loaded_model = tf.saved_model.load(folder)

    # The signature alone does not keep the variables alive, so the function holds the model.
    def predict(signature, input_name, images, keep_alive=loaded_model):
        return signature(**{input_name: tf.constant(images)})[OUTPUT].numpy()

    return {
        signature_name: functools.partial(
            predict, signature, *signature.structured_input_signature[1]
        )
        for signature_name, signature in loaded_model.signatures.items()
    }


def open_onnx(folder, precision="float32"):
    """Opens an ONNX file with ONNX Runtime, on the CPU.

    Args:
        folder: str, the folder of the exported model.
        precision: "float32", "float16" or "int8".

    Returns:
        function from uint8 (N, S, S, 3) to float32 (N, C).
    """
    import onnxruntime

    session_options = onnxruntime.SessionOptions()
    session_options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(
        path_of(folder, "onnx", precision), session_options, providers=["CPUExecutionProvider"]
    )
    return lambda images: session.run([OUTPUT], {INPUT: images})[0]


_core_lock = threading.Lock()


def core():
    """OpenVINO's `Core`, the only one of this process and as long as it lives.

    On CPUs with AMX its plugin gives the thread that loads it another stack for signals, and
    unmaps that stack when the plugin is destroyed. With two plugins, the second restores the
    stack of the first: if that is gone, the next signal that Python handles ends the process with
    a segmentation fault.
    """
    with _core_lock:  # functools.cache alone would make one per thread that asks at the same time
        return _core()


@functools.cache
def _core():
    import openvino

    return openvino.Core()


@functools.cache
def _stream_count():
    """Number of parts that a batch is computed in at once, each on as many threads.

    It is a power of two. OpenVINO knows its number of threads (one per physical performance core)
    only when it has compiled a model.
    """
    import openvino
    from openvino import opset1

    empty_input = opset1.parameter([1])
    thread_count = (
        core()
        .compile_model(openvino.Model([empty_input], [empty_input]), "CPU")
        .get_property("INFERENCE_NUM_THREADS")
    )
    return thread_count & -thread_count


class OpenVINOPredictor:
    """OpenVINO on the CPU, for batches of fixed sizes: twice as fast as for any size.

    A batch is filled up to the next size with copies of its last image, and split beyond the
    largest size. Its images are divided among groups of threads that do not wait for each other
    at each layer: a tenth faster, and a quarter where other processes use the cores as well.
    Models for larger batches are compiled when the first such batch comes.

    Args:
        folder: str, the folder of the exported model.
        precision: "float32", "bfloat16", "float16" or "int8".

    Call:
        images: uint8 (N, S, S, 3); returns float32 (N, C).
    """

    def __init__(self, folder, precision="float32"):
        self.model = core().read_model(path_of(folder, "openvino", precision))
        # OpenVINO would choose bfloat16 by itself where the CPU has it.
        precision_hint = "bf16" if precision == "bfloat16" else "f32"
        self._settings = {"INFERENCE_PRECISION_HINT": precision_hint}
        self._compiled_models = {}
        self._lock = threading.Lock()
        self._thread_data = threading.local()  # a request serves one thread at a time

    def __call__(self, images):
        largest_size = BATCH_SIZES[-1]
        parts = [
            self._predict_batch(images[start : start + largest_size])
            for start in range(0, len(images), largest_size)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _predict_batch(self, images):
        count = len(images)
        batch_size = next(batch_size for batch_size in BATCH_SIZES if batch_size >= count)
        if batch_size > count:
            padding = np.repeat(images[-1:], batch_size - count, axis=0)
            images = np.concatenate([images, padding])
        images = np.ascontiguousarray(images)
        requests = self._requests(batch_size)
        if batch_size == 1:  # faster in this thread
            return requests[0].infer({0: images}, share_inputs=True)[0]
        for request, part in zip(requests, np.split(images, len(requests))):
            request.start_async({0: part}, share_inputs=True)
        for request in requests:
            request.wait()
        return np.concatenate([request.get_output_tensor().data for request in requests])[:count]

    def _requests(self, batch_size):
        """This thread's requests for a batch, one for each of its parts."""
        requests = self._thread_data.__dict__.setdefault("requests", {})
        if batch_size not in requests:
            part_count = 1 if batch_size == 1 else min(batch_size, _stream_count())
            model = self._compile(batch_size, part_count)
            requests[batch_size] = [model.create_infer_request() for _ in range(part_count)]
        return requests[batch_size]

    def _compile(self, batch_size, part_count):
        with self._lock:
            if batch_size not in self._compiled_models:
                model = self.model.clone()
                image_shape = list(model.input(0).partial_shape)[1:]
                model.reshape([batch_size // part_count, *image_shape])
                self._compiled_models[batch_size] = core().compile_model(
                    model, "CPU", {**self._settings, "NUM_STREAMS": part_count}
                )
            return self._compiled_models[batch_size]


class LiteRTPredictor:
    """LiteRT (TensorFlow Lite) on the CPU; one thread at a time.

    Args:
        folder: str, the folder of the exported model.
        precision: "float32", "float16" or "int8".

    Call:
        images: uint8 (N, S, S, 3); returns float32 (N, C).
    """

    def __init__(self, folder, precision="float32"):
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(
            path_of(folder, "litert", precision), num_threads=usable_cores()
        )
        self._input_index = self._interpreter.get_input_details()[0]["index"]
        self._output_index = self._interpreter.get_output_details()[0]["index"]
        self._input_shape = None
        self._lock = threading.Lock()

    def __call__(self, images):
        with self._lock:
            if images.shape != self._input_shape:
                self._interpreter.resize_tensor_input(self._input_index, images.shape)
                self._interpreter.allocate_tensors()
                self._input_shape = images.shape
            self._interpreter.set_tensor(self._input_index, images)
            self._interpreter.invoke()
            return self._interpreter.get_tensor(self._output_index)


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
        OpenVINOPredictor,
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
        LiteRTPredictor,
    ),
    "savedmodel": Runtime(
        "tensorflow", "tensorflow", {"float32": "saved_model.pb"}, open_savedmodel
    ),
}
# The fastest on a CPU first: docs/benchmarks.md. ONNX Runtime's int8 is slower than all but the
# SavedModel, and is offered for its size.
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
    """str, path of the file that a runtime opens for a precision.

    Args:
        folder: str, the folder of the exported model.
        name: str, a key of `RUNTIMES`.
        precision: str, one of the runtime's.
    """
    return os.path.join(folder, RUNTIMES[name].files[precision])


def size(folder, name, precision):
    """int, bytes of all files that a runtime needs for a precision.

    Args:
        folder: str, the folder of the exported model.
        name: str, a key of `RUNTIMES`.
        precision: str, one of the runtime's.
    """
    file_paths = [path_of(folder, name, precision)]
    if name == "savedmodel":
        weights_folder = os.path.join(folder, "variables")
        file_paths += [
            os.path.join(weights_folder, file_name) for file_name in os.listdir(weights_folder)
        ]
    elif file_paths[0].endswith(".xml"):
        file_paths.append(os.path.splitext(file_paths[0])[0] + ".bin")
    return sum(map(os.path.getsize, file_paths))


def is_installed(name):
    """bool, whether a runtime's module is installed; it is not imported.

    Args:
        name: str, a key of `RUNTIMES`.
    """
    return importlib.util.find_spec(RUNTIMES[name].module) is not None


@functools.cache
def has_bfloat16():
    """bool, whether OpenVINO computes in bfloat16 on this CPU (AMX, AVX-512 BF16)."""
    if not is_installed("openvino"):
        return False
    try:
        return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except Exception:  # installed but broken; opening it says why
        return False


def open_model(folder, name, precision="float32"):
    """Opens an exported model with one runtime, without its self-test.

    Args:
        folder: str, the folder of the exported model.
        name: str, a key of `RUNTIMES`.
        precision: str, one of the runtime's.

    Returns:
        function from uint8 (N, S, S, 3) to float32 (N, C).

    Raises:
        InputError: the runtime is not installed, or its file cannot be opened.

    Example:
        >>> predict = open_model("save_h5_model/demo/model", "onnx")
        >>> predict(np.zeros((1, 32, 32, 3), np.uint8)).shape
        (1, 10)
    """
    runtime = RUNTIMES[name]
    try:
        return runtime.open(folder, precision)
    except ModuleNotFoundError:
        raise InputError(
            f"--runtime: {name}: {runtime.module} is not installed; pip install {runtime.package}"
        ) from None
    except Exception as error:  # every runtime has errors of its own
        raise InputError(
            f"{path_of(folder, name, precision)}: cannot be opened: {one_line(error)}"
        ) from None


def one_line(error):
    """str, the message of a library's exception in one line, at most 300 characters.

    Args:
        error: exception; where it has no message, its class stands for it.
    """
    return " ".join(str(error).split())[:300] or type(error).__name__
