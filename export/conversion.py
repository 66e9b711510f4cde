"""A Keras model as an ONNX file, and that as an OpenVINO one: smaller and faster runtimes."""

import contextlib
import os
import sys
from types import SimpleNamespace

import numpy as np

from common.errors import RunError
from common.files import reserve
from export.folding import fold
from prediction import telemetry  # noqa: F401  before OpenVINO

GRAPH_BYTES = 2_000_000  # of OpenVINO's .xml, which ONNX keeps in less
OPSET = 18  # of ONNX; the newest that tf2onnx writes


def named_outputs(model, images, names):
    """dict of name -> output of a model, in the order of its outputs.

    Args:
        model: a Keras model with one output or several.
        images: what it takes.
        names: list of str, at least as many as it has outputs.
    """
    outputs = model(images, training=False)
    return dict(zip(names, outputs if isinstance(outputs, (list, tuple)) else [outputs]))


def to_onnx(model, path, input_name, output_names):
    """Writes a model as an ONNX file with a free batch dimension.

    Args:
        model: a Keras model of the TensorFlow backend that takes uint8 (N, S, S, 3).
        path: str, the file to write.
        input_name: str, name of the file's input.
        output_names: list of str, names for its outputs, at least one for each of the model's.

    Raises:
        RunError: the model has an operation that ONNX does not support; names it.
    """
    import onnx
    import tensorflow as tf
    import tf2onnx

    signature = [tf.TensorSpec((None, *model.input.shape[1:]), tf.uint8, name=input_name)]
    # Keras compiles some convolutions with XLA, as functions of their own, which tf2onnx does not
    # look into. Functions that run eagerly become part of the graph around them.
    was_eager = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        concrete_function = tf.compat.v1.wrap_function(
            lambda images: named_outputs(model, images, output_names), signature
        )
    finally:
        tf.config.run_functions_eagerly(was_eager)
    with contextlib.redirect_stdout(sys.stderr):
        onnx_model, _ = tf2onnx.convert.from_function(
            SimpleNamespace(get_concrete_function=lambda *_: concrete_function),
            signature,
            opset=OPSET,
        )
    _replace_erfc(onnx_model.graph)
    fold(onnx_model.graph)
    known_operations = {schema.name for schema in onnx.defs.get_all_schemas()}
    unsupported = sorted({node.op_type for node in onnx_model.graph.node} - known_operations)
    if unsupported:
        raise RunError(
            f"onnx: does not support {', '.join(unsupported)}, which this model needs; leave "
            "onnx and openvino out of --format"
        )
    _rename_input(onnx_model.graph, input_name)
    onnx.save(onnx_model, path)


def _replace_erfc(graph):
    """Replaces erfc(x), which TensorFlow's GELU uses, by 1 - erf(x): ONNX has only erf."""
    from onnx import helper, numpy_helper

    for node in [node for node in graph.node if node.op_type == "Erfc"]:
        position = list(graph.node).index(node)
        one_name, erf_name = node.name + "_one", node.name + "_erf"
        graph.initializer.append(numpy_helper.from_array(np.float32(1), one_name))
        graph.node.insert(position, helper.make_node("Erf", node.input, [erf_name], erf_name))
        subtraction = helper.make_node("Sub", [one_name, erf_name], node.output, node.name)
        graph.node.insert(position + 1, subtraction)
        graph.node.remove(node)


def _rename_input(graph, input_name):
    """Names the graph's input, and the free dimension; the outputs have their names."""
    old_name, graph.input[0].name = graph.input[0].name, input_name
    for node in graph.node:
        node.input[:] = [input_name if name == old_name else name for name in node.input]
    for tensor in (graph.input[0], *graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "images"


def to_openvino(onnx_path, path):
    """Writes an ONNX file as OpenVINO's two files.

    Args:
        onnx_path: str, the ONNX file to read.
        path: str, the .xml file to write; the weights go beside it (.bin).

    Raises:
        OSError: the disk is full.
    """
    import openvino

    # Where the disk is full, OpenVINO says no more than "iostream error".
    reserve(path, os.path.getsize(onnx_path) + GRAPH_BYTES)
    # Not convert_model, which reports usage over the network.
    openvino.save_model(openvino.Core().read_model(onnx_path), path, compress_to_fp16=False)
