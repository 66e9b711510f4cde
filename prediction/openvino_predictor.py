"""OpenVINO as a function from images to a model's outputs."""

import functools
import threading

import numpy as np

from prediction import telemetry  # noqa: F401  before OpenVINO

BATCH_SIZES = (1, 2, 4, 8, 16, 32)  # a model is compiled for each, when first needed
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

    openvino_core = openvino.Core()
    # Weights that are mapped from the file change, or end the process, where it is written over.
    openvino_core.set_property({"ENABLE_MMAP": False})
    return openvino_core


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


@functools.cache
def sums_overflow():
    """Whether OpenVINO adds 8-bit products in 16 bits here, as on x86 processors without VNNI.

    Computed, since no property says so: eight products of 255 and 127.

    Returns:
        bool.
    """
    import openvino
    from openvino import opset1

    levels = [np.float32(level) for level in (0, 255, 0, 255)]
    image = opset1.parameter([1, 8, 1, 1], np.float32)
    weights = opset1.convert(opset1.constant(np.full((8, 8, 1, 1), 127, np.int8)), np.float32)
    scaled = opset1.multiply(weights, np.float32(1))
    rounded = opset1.fake_quantize(image, *levels, 256)
    product = opset1.convolution(rounded, scaled, [1, 1], [0, 0], [0, 0], [1, 1])
    compiled = core().compile_model(openvino.Model([product], [image]), "CPU")
    largest = compiled(np.full((1, 8, 1, 1), 255, np.float32))[0]
    return bool((largest < 8 * 255 * 127).any())


class OpenVINOPredictor:
    """OpenVINO on the CPU, for batches of fixed sizes: twice as fast as for any size.

    A batch is filled up to the next size with copies of its last image, and split beyond the
    largest size. Its images are divided among groups of threads that do not wait for each other
    at each layer: a tenth faster, and a quarter where other processes use the cores as well.
    Models for larger batches are compiled when the first such batch comes.

    Args:
        model_path: str, an OpenVINO or ONNX file.
        names: tuple of str, the outputs to give, as far as the model has them.
        in_bfloat16: bool, whether to compute a float32 model in bfloat16.

    Call:
        images: uint8 (N, S, S, 3); returns a list with float32 (N, ...) for each output.
    """

    def __init__(self, model_path, names, in_bfloat16=False):
        self.model = core().read_model(model_path)
        known_names = [output.any_name for output in self.model.outputs]
        self._outputs = [known_names.index(name) for name in names if name in known_names]
        # OpenVINO would choose bfloat16 by itself where the CPU has it.
        precision_hint = "bf16" if in_bfloat16 else "f32"
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
        return parts[0] if len(parts) == 1 else [np.concatenate(outputs) for outputs in zip(*parts)]

    def _predict_batch(self, images):
        count = len(images)
        batch_size = next(batch_size for batch_size in BATCH_SIZES if batch_size >= count)
        if batch_size > count:
            padding = np.repeat(images[-1:], batch_size - count, axis=0)
            images = np.concatenate([images, padding])
        images = np.ascontiguousarray(images)
        requests = self._requests(batch_size)
        if batch_size == 1:  # faster in this thread
            values = requests[0].infer({0: images}, share_inputs=True)
            return [values[output] for output in self._outputs]
        for request, part in zip(requests, np.split(images, len(requests))):
            request.start_async({0: part}, share_inputs=True)
        for request in requests:
            request.wait()
        return [
            np.concatenate([request.get_output_tensor(output).data for request in requests])[:count]
            for output in self._outputs
        ]

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
