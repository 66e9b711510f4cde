"""Folding of batch normalization into the convolution before it, in an ONNX graph."""

import numpy as np


def fold(graph):
    """Multiplies factors and adds offsets per channel into the convolution that they follow.

    tf2onnx does so for most convolutions but not for depthwise ones. A runtime can only compute a
    convolution in int8 where nothing in float32 stands between it and its activation.

    Args:
        graph: ONNX graph; it is changed.
    """
    from onnx import numpy_helper

    constants = {constant.name: constant for constant in graph.initializer}
    for node in list(graph.node):
        if node.op_type != "Conv" or any(name not in constants for name in node.input[1:]):
            continue
        weights, *rest = (numpy_helper.to_array(constants[name]) for name in node.input[1:])
        bias = rest[0] if rest else np.zeros(len(weights), np.float32)
        follower = None
        while (step := _next_step(graph, node, constants, len(weights))) is not None:
            follower, values = step
            if follower.op_type == "Mul":
                weights, bias = weights * values.reshape(-1, 1, 1, 1), bias * values
            else:
                bias = bias + values
            node.output[0] = follower.output[0]
            graph.node.remove(follower)
        if follower is None:
            continue
        names = [node.output[0] + "_folded_weights", node.output[0] + "_folded_bias"]
        for name, values in zip(names, (weights, bias)):
            graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
        node.input[:] = [node.input[0], *names]
    used = {name for node in graph.node for name in node.input}
    kept = [constant for constant in graph.initializer if constant.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _next_step(graph, node, constants, channels):
    """(Mul or Add node, float32 (channels,)) that alone takes the convolution's output, or None."""
    from onnx import numpy_helper

    name = node.output[0]
    consumers = [each for each in graph.node if name in each.input]
    is_output = any(output.name == name for output in graph.output)
    if len(consumers) != 1 or consumers[0].op_type not in ("Mul", "Add") or is_output:
        return None
    others = [other for other in consumers[0].input if other != name]
    if len(others) != 1 or others[0] not in constants:
        return None
    values = numpy_helper.to_array(constants[others[0]])
    per_channel = values.ndim in (3, 4) and values.shape[-3:] == (channels, 1, 1)
    if values.dtype != np.float32 or not (
        values.size == 1 or per_channel and values.size == channels
    ):
        return None
    return consumers[0], np.broadcast_to(values.reshape(-1), (channels,))
