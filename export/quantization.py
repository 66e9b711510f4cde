"""A model in lower precision: half the file size in float16, a quarter in int8.

float16 halves the bits of each weight; the runtime still computes in float32. In int8, weights and
activations have 8 bits, in ranges determined from some training images: post-training quantization
(Jacob et al. 2018, section 3). ONNX Runtime and OpenVINO read the same file (`export.onnx_int8`);
LiteRT's comes from TensorFlow's converter (`export.litert_int8`).
"""

import contextlib
import sys

import numpy as np

from common.errors import RunError
from export import litert_int8, onnx_int8
from prediction.runtimes import one_line

MIN_VALUES = 64  # a smaller weight is not worth the two conversions


def to_float16(source, path):
    """Writes an ONNX file with 16-bit weights, each converted to float32 when it is loaded.

    Args:
        source: str, the ONNX file in float32.
        path: str, the file to write.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(source)
    largest = np.finfo(np.float16).max
    cast_nodes = []
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype != np.float32 or values.size < MIN_VALUES:
            continue
        weight_name = weight.name
        half_values = np.clip(values, -largest, largest).astype(np.float16)
        weight.CopyFrom(numpy_helper.from_array(half_values, weight_name + "_float16"))
        cast_nodes.append(
            helper.make_node(
                "Cast", [weight.name], [weight_name], weight_name + "_cast", to=TensorProto.FLOAT
            )
        )
    all_nodes = [*cast_nodes, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(all_nodes)
    onnx.save(model, path)


def to_int8(source, path, input_name, images):
    """Writes an ONNX file that computes in int8.

    Args:
        source: str, the ONNX file in float32.
        path: str, the file to write.
        input_name: str, name of its input.
        images: uint8 (N, S, S, 3), typical images, which determine the ranges of activations.
    """
    import onnx

    model = onnx.load(source)
    onnx_int8.quantize(model, input_name, images)
    onnx.save(model, path)


def to_litert(folder, path, precision="float32", images=()):
    """Writes a SavedModel as LiteRT's file (TensorFlow Lite).

    Args:
        folder: str, the folder of the SavedModel.
        path: str, the file to write.
        precision: "float32", "float16" or "int8".
        images: uint8 (N, S, S, 3), typical images, for int8.

    Raises:
        RunError: the model has an operation that LiteRT does not support.
    """
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serving_default"])
    if precision == "float16":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    try:
        with contextlib.redirect_stdout(sys.stderr):
            file_content = converter.convert()
            if precision == "int8":
                file_content = litert_int8.convert(converter, file_content, images)
    except Exception as error:  # the converter has no exceptions of its own
        reason = one_line(error)
        raise RunError(f"litert: the model cannot be converted: {reason}") from None
    with open(path, "wb") as litert_file:
        litert_file.write(file_content)
