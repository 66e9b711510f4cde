"""A Keras model becomes an ONNX file, and that an OpenVINO one: smaller runtimes, faster ones."""

import contextlib
import sys
from types import SimpleNamespace

import numpy as np

from common.errors import RunError
from prediction import telemetry  # noqa: F401  before OpenVINO

OPSET = 18  # of ONNX; the newest that tf2onnx writes


def to_onnx(model, path, input_name, output_name):
    """Writes a model with a uint8 input (N, S, S, 3), N free, as an ONNX file.

    Args:
        model: a Keras model of the TensorFlow backend.
        path: the file to write.
        input_name, output_name: of the file's one input and one output.

    Raises:
        RunError: the model has an operation that ONNX lacks; names it.
    """
    import onnx
    import tensorflow as tf
    import tf2onnx

    signature = [tf.TensorSpec((None, *model.input.shape[1:]), tf.uint8, name=input_name)]
    # Keras compiles some convolutions with XLA, as functions of their own, which tf2onnx does not
    # look into. Functions that run eagerly become part of the graph around them.
    eager = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        concrete = tf.compat.v1.wrap_function(
            lambda x: {output_name: model(x, training=False)}, signature
        )
    finally:
        tf.config.run_functions_eagerly(eager)
    with contextlib.redirect_stdout(sys.stderr):
        proto, _ = tf2onnx.convert.from_function(
            SimpleNamespace(get_concrete_function=lambda *_: concrete), signature, opset=OPSET
        )
    _replace_erfc(proto.graph)
    known = {schema.name for schema in onnx.defs.get_all_schemas()}
    foreign = sorted({node.op_type for node in proto.graph.node} - known)
    if foreign:
        raise RunError(f"onnx: has no {', '.join(foreign)}, which this model needs")
    _name(proto.graph, input_name, output_name)
    onnx.save(proto, path)


def _replace_erfc(graph):
    """TensorFlow's GELU takes erfc(x), which is 1 - erf(x); ONNX has erf alone."""
    from onnx import helper, numpy_helper

    for node in [node for node in graph.node if node.op_type == "Erfc"]:
        place = list(graph.node).index(node)
        graph.initializer.append(numpy_helper.from_array(np.float32(1), node.name + "_one"))
        erf = node.name + "_erf"
        graph.node.insert(place, helper.make_node("Erf", node.input, [erf], erf))
        graph.node.insert(
            place + 1, helper.make_node("Sub", [node.name + "_one", erf], node.output, node.name)
        )
        graph.node.remove(node)


def _name(graph, input_name, output_name):
    """Names what goes in and out, and the free dimension."""
    renamed = {graph.input[0].name: input_name, graph.output[0].name: output_name}
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]
    for value in (graph.input[0], graph.output[0]):
        value.name = renamed[value.name]
        value.type.tensor_type.shape.dim[0].dim_param = "images"


def to_openvino(onnx_path, path):
    """Writes an ONNX file as OpenVINO's: `path` (.xml), and the weights beside it (.bin)."""
    import openvino

    # Not convert_model, which reports to its maker over the network.
    openvino.save_model(openvino.Core().read_model(onnx_path), path, compress_to_fp16=False)
