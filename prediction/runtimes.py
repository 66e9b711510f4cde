"""The runtimes that compute an exported model: TensorFlow, ONNX Runtime, OpenVINO and LiteRT.

Each opens its own file of the exported folder and returns a function from uint8 (N, S, S, 3) to
`Answers` that several threads may call at once. Only the SavedModel's imports TensorFlow.
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
from prediction.openvino_predictor import OpenVINOPredictor, core, sums_overflow

INPUT, OUTPUT, SIMILARITY = "input_img", "output_score", "output_similarity"
BYTES = "image_bytes"  # input of the SavedModel's signature that takes files as they are


class Answers(NamedTuple):
    """What a model computes of a batch.

    Attributes:
        probabilities: float32 (N, C), rows sum to 1.
        similarities: float32 (N,), the largest cosine to a center of what was learned, -1 to 1;
            None for a model without centers.
    """

    probabilities: np.ndarray
    similarities: np.ndarray | None = None

    def rows(self, chosen):
        """`Answers` of some of the images.

        Args:
            chosen: what indexes an array's rows.
        """
        return Answers(*(each if each is None else each[chosen] for each in self))

    @classmethod
    def of_outputs(cls, outputs):
        """`Answers` of a model's one or two outputs, float32 (N, C) and (N, 1).

        Args:
            outputs: list of arrays.
        """
        probabilities, *others = map(np.asarray, outputs)
        return cls(probabilities, *[similarity[:, 0] for similarity in others])


class Runtime(NamedTuple):
    """A runtime.

    Attributes:
        module: str, the module that it imports.
        package: str, the package to install for it.
        files: dict of precision -> its file in the exported folder. OpenVINO reads ONNX's, too,
            and computes in bfloat16 what is stored in float32.
        open: function (folder, precision) -> predict.
        batches_at_once: int, number of batches that it computes faster at once than one after the
            other. With two, OpenVINO's threads find work in the second when their part of the
            first is done; ONNX Runtime is slower by a sixth with two.
    """

    module: str
    package: str
    files: dict
    open: object
    batches_at_once: int = 1


def open_savedmodel(folder, precision="float32"):
    """Opens the SavedModel with TensorFlow, on a GPU where there is one.

    Args:
        folder: str, the folder of the exported model.
        precision: "float32", the only one.

    Returns:
        function from uint8 (N, S, S, 3) to `Answers`.
    """
    return signatures(folder)["serving_default"]


def signatures(folder):
    """Opens all signatures of the SavedModel.

    Args:
        folder: str, the folder of the exported model.

    Returns:
        dict of signature -> function that returns `Answers`. Those of "serving_default" and
        "predict_image" take uint8 (N, S, S, 3), that of "predict_bytes" takes a list of the bytes
        of image files.
    """
    from compute.backend import import_keras

    import_keras()
    import tensorflow as tf

    tf.config.experimental.enable_tensor_float_32_execution(False)  # it is compared with others
    loaded_model = tf.saved_model.load(folder)

    # The signature alone does not keep the variables alive, so the function holds the model.
    def predict(signature, input_name, images, keep_alive=loaded_model):
        outputs = signature(**{input_name: tf.constant(images)})
        return Answers.of_outputs(
            outputs[name].numpy() for name in (OUTPUT, SIMILARITY) if name in outputs
        )

    return {
        signature_name: functools.partial(
            predict, signature, *signature.structured_input_signature[1]
        )
        for signature_name, signature in loaded_model.signatures.items()
    }


def onnx_session_options():
    """How ONNX Runtime computes everywhere in this toolkit.

    Returns:
        `onnxruntime.SessionOptions`.
    """
    import onnxruntime

    session_options = onnxruntime.SessionOptions()
    session_options.log_severity_level = 3  # errors
    # x86 processors without VNNI add products of 8 bits in 16, which overflow: with this the
    # weights of int8 are widened there. On others it changes nothing.
    session_options.add_session_config_entry("session.x64quantprecision", "1")
    return session_options


def open_onnx(folder, precision="float32"):
    """Opens an ONNX file with ONNX Runtime, on the CPU.

    Args:
        folder: str, the folder of the exported model.
        precision: "float32", "float16" or "int8".

    Returns:
        function from uint8 (N, S, S, 3) to `Answers`.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(
        path_of(folder, "onnx", precision),
        onnx_session_options(),
        providers=["CPUExecutionProvider"],
    )
    known_names = {output.name for output in session.get_outputs()}
    names = [name for name in (OUTPUT, SIMILARITY) if name in known_names]
    return lambda images: Answers.of_outputs(session.run(names, {INPUT: images}))


def open_openvino(folder, precision="float32"):
    """Opens a file with OpenVINO, on the CPU.

    Args:
        folder: str, the folder of the exported model.
        precision: "float32", "bfloat16", "float16" or "int8".

    Returns:
        function from uint8 (N, S, S, 3) to `Answers`.

    Raises:
        InputError: int8 on a CPU whose sums of it overflow.
    """
    if precision == "int8" and not has_openvino_int8():
        raise InputError(
            "--runtime: openvino: its int8 is wrong on this CPU, which has no VNNI: sums of 8 bits "
            "overflow; --runtime onnx computes the same file right"
        )
    predict = OpenVINOPredictor(
        path_of(folder, "openvino", precision), (OUTPUT, SIMILARITY), precision == "bfloat16"
    )
    return lambda images: Answers.of_outputs(predict(images))


class LiteRTPredictor:
    """LiteRT (TensorFlow Lite) on the CPU; one thread at a time.

    Args:
        folder: str, the folder of the exported model.
        precision: "float32", "float16" or "int8".

    Call:
        images: uint8 (N, S, S, 3); returns `Answers`.
    """

    def __init__(self, folder, precision="float32"):
        from ai_edge_litert.interpreter import Interpreter

        # Read, not mapped: who writes the file over must not change or end what runs.
        with open(path_of(folder, "litert", precision), "rb") as model_file:
            self._model_bytes = model_file.read()
        self._interpreter = Interpreter(model_content=self._model_bytes, num_threads=usable_cores())
        self._input_index = self._interpreter.get_input_details()[0]["index"]
        outputs = self._interpreter.get_signature_runner().get_output_details()
        self._output_indices = [
            outputs[name]["index"] for name in (OUTPUT, SIMILARITY) if name in outputs
        ]
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
            return Answers.of_outputs(map(self._interpreter.get_tensor, self._output_indices))


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
        batches_at_once=2,
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
# The fastest on a CPU first: docs/benchmarks.md. ONNX Runtime's int8 of most networks is slower
# than all but the SavedModel, and is offered for its size; that of EfficientNet-Lite is faster.
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


def batches_at_once(pair):
    """int, number of batches that a classifier computes faster at once than one after the other.

    Args:
        pair: (key of `RUNTIMES`, precision); None where Keras computes.
    """
    return 1 if pair is None else RUNTIMES[pair[0]].batches_at_once


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


@functools.cache
def has_openvino_int8():
    """bool, whether OpenVINO's int8 is right on this CPU: without VNNI its sums overflow."""
    try:
        return not sums_overflow()
    except Exception:  # not installed, or broken; opening it says why
        return True


def open_model(folder, name, precision="float32"):
    """Opens an exported model with one runtime, without its self-test.

    Args:
        folder: str, the folder of the exported model.
        name: str, a key of `RUNTIMES`.
        precision: str, one of the runtime's.

    Returns:
        function from uint8 (N, S, S, 3) to `Answers`.

    Raises:
        InputError: the runtime is not installed, or its file cannot be opened.

    Example:
        >>> predict = open_model("save_h5_model/demo/model", "onnx")
        >>> predict(np.zeros((1, 32, 32, 3), np.uint8)).probabilities.shape
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
