"""A model in fewer bits: half the file in float16, a quarter in int8.

float16 halves each weight's bits; the runtime still computes in float32. In int8 weights and what
flows between layers have 8 bits, in ranges that some training images tell: post-training
quantization (Jacob et al. 2018, section 3), by NNCF for ONNX Runtime and OpenVINO, which read the
same file, and by TensorFlow's converter for LiteRT.
"""

import contextlib
import logging
import sys

import numpy as np

from common.errors import RunError

CALIBRATION_IMAGES = 256  # of those trained on, spread evenly
SMALLEST = 64  # numbers that a weight needs to be worth the two conversions


def to_float16(source, path):
    """Writes an ONNX file whose weights have 16 bits, each turned to float32 when it is loaded.

    Args:
        source: the file in float32.
        path: the file to write.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(source)
    casts = []
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype != np.float32 or values.size < SMALLEST:
            continue
        name = weight.name
        limit = np.finfo(np.float16).max
        half = np.clip(values, -limit, limit).astype(np.float16)
        weight.CopyFrom(numpy_helper.from_array(half, name + "_float16"))
        casts.append(
            helper.make_node("Cast", [weight.name], [name], name + "_cast", to=TensorProto.FLOAT)
        )
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, path)


def to_int8(source, path, input_name, images):
    """Writes an ONNX file that computes in int8.

    Args:
        source: the file in float32.
        path: the file to write.
        input_name: of its input.
        images: uint8 (N, S, S, 3), typical ones.
    """
    import onnx

    with _quiet_nncf() as nncf:
        dataset = nncf.Dataset([{input_name: image[None]} for image in images])
        model = nncf.quantize(
            onnx.load(source),
            dataset,
            subset_size=len(images),
            # For activations that are not symmetric about zero, as swish and GELU are not.
            preset=nncf.QuantizationPreset.MIXED,
            # Gates, of swish and of squeeze-and-excitation, lose most and hold no weights.
            ignored_scope=nncf.IgnoredScope(types=["Mul"], validate=False),
        )
    onnx.save(model, path)


@contextlib.contextmanager
def _quiet_nncf():
    """NNCF without its progress and its notes."""
    with contextlib.redirect_stdout(sys.stderr):
        import nncf

        nncf.set_log_level(logging.ERROR)
        yield nncf


def to_litert(folder, path, precision="float32", images=()):
    """Writes a SavedModel as LiteRT's file (TensorFlow Lite).

    Args:
        folder: of the SavedModel.
        path: the file to write.
        precision: "float32", "float16" or "int8".
        images: uint8 (N, S, S, 3), typical ones, for int8.

    Raises:
        RunError: the model has an operation that LiteRT lacks.
    """
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serving_default"])
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "int8":
        converter.representative_dataset = lambda: ([image[None]] for image in images)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            data = converter.convert()
    except Exception as error:  # the converter has none of its own
        reason = " ".join(str(error).split())[:300]
        raise RunError(f"litert: cannot be converted: {reason}") from None
    with open(path, "wb") as file:
        file.write(data)
