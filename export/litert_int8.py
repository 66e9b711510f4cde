"""A LiteRT file that computes in int8, by TensorFlow's converter, with its weights rounded anew.

The converter chooses the ranges and rounds each weight by itself. Here the same steps are kept,
but the weights are rounded such that the outputs stay (`export.rounding`). What loses most in 8
bits stays in float32, as in ONNX's file: the first convolutions, sums, products and the
probabilities, of which 256 are too few to tell the two best classes apart.
"""

import warnings

import numpy as np

from common.cpu import usable_cores
from export.onnx_int8 import BATCH, POSITIONS, first_convolutions, moment_images
from export.rounding import InputMoments, patches
from modeling.layer_names import SIMILARITY_LAYER

FLOAT_OPERATIONS = ("ADD", "MUL", "SOFTMAX")
CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
INT8 = 9  # of the format's tensor types


def convert(converter, float_content, images):
    """Converts to int8.

    Args:
        converter: `tf.lite.TFLiteConverter` of the model.
        float_content: bytes, the same model converted to float32.
        images: uint8 (N, S, S, 3), typical images.

    Returns:
        bytes.
    """
    import tensorflow as tf
    from tensorflow.lite.tools import flatbuffer_utils

    float_file = _File(flatbuffer_utils.convert_bytearray_to_object(float_content))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None]] for image in images)
    names = float_file.outputs(CONVOLUTIONS)
    kept = float_file.outputs(FLOAT_OPERATIONS) + names[: first_convolutions(len(names))]
    kept += [name for name in map(bytes.decode, float_file.operators) if SIMILARITY_LAYER in name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that its interpreter will move to another package
        debugger = tf.lite.experimental.QuantizationDebugger(
            converter=converter,
            debug_dataset=converter.representative_dataset,
            debug_options=tf.lite.experimental.QuantizationDebugOptions(denylisted_nodes=kept),
        )
    content = debugger.get_nondebug_quantized_model()
    quantized = _File(flatbuffer_utils.convert_bytearray_to_object(bytearray(content)))
    layers = [
        (operator, float_file.operators[name])
        for name, operator in quantized.operators.items()
        if quantized.kind(operator) in CONVOLUTIONS
        and quantized.tensor(operator.inputs[1]).type == INT8
        and name in float_file.operators
    ]
    moments = _observe(float_content, float_file, [layer for _, layer in layers], images)
    for (operator, float_operator), layer_moments in zip(layers, moments):
        _round_weights(quantized, operator, float_file.weights(float_operator), layer_moments)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(quantized.model))


class _File:
    """A LiteRT file's one graph, its operators by the name of what they give."""

    def __init__(self, model):
        from tensorflow.lite.python import schema_py_generated as schema

        self.model = model
        self.graph = model.subgraphs[0]
        self._kinds = {
            number: name
            for name, number in vars(schema.BuiltinOperator).items()
            if isinstance(number, int)
        }
        self.operators = {
            self.tensor(operator.outputs[0]).name: operator for operator in self.graph.operators
        }
        self._same = schema.Padding.SAME

    def kind(self, operator):
        code = self.model.operatorCodes[operator.opcodeIndex]
        return self._kinds[max(code.builtinCode, code.deprecatedBuiltinCode)]

    def outputs(self, kinds):
        """Names of what the operators of some kinds give, in the order of the graph."""
        return [
            self.tensor(operator.outputs[0]).name.decode()
            for operator in self.graph.operators
            if self.kind(operator) in kinds
        ]

    def tensor(self, index):
        return self.graph.tensors[index]

    def data(self, index, kind):
        tensor = self.tensor(index)
        values = np.frombuffer(bytes(self.model.buffers[tensor.buffer].data), kind)
        return values.reshape(tensor.shape)

    def set_data(self, index, values):
        data = np.frombuffer(values.tobytes(), np.uint8)
        self.model.buffers[self.tensor(index).buffer].data = data

    def is_depthwise(self, operator):
        return self.kind(operator) == "DEPTHWISE_CONV_2D"

    def weights(self, operator):
        """float32 (G, O, K), in ONNX's order."""
        kernel = self.data(operator.inputs[1], np.float32)
        if self.is_depthwise(operator):
            return kernel[0].transpose(2, 0, 1).reshape(kernel.shape[3], 1, -1)
        return kernel.transpose(0, 3, 1, 2).reshape(1, len(kernel), -1)

    def geometry(self, operator, sides):
        """dict as `rounding.patches` takes it, for an input of these two sides."""
        options = operator.builtinOptions
        kernel = list(self.tensor(operator.inputs[1]).shape[1:3])
        strides = [options.strideH, options.strideW]
        dilations = [options.dilationHFactor, options.dilationWFactor]
        before, after = [0, 0], [0, 0]
        if options.padding == self._same:
            for axis in range(2):
                reach = (kernel[axis] - 1) * dilations[axis] + 1
                steps = -(-sides[axis] // strides[axis]) - 1
                total = max(steps * strides[axis] + reach - sides[axis], 0)
                before[axis], after[axis] = total // 2, total - total // 2
        return {
            "kernel": kernel,
            "strides": strides,
            "dilations": dilations,
            "pads": before + after,
        }


def _observe(content, file, operators, images):
    """`InputMoments` of each convolution, from the file in float32."""
    from ai_edge_litert.interpreter import Interpreter

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that all tensors take memory
        interpreter = Interpreter(
            model_content=bytes(content),
            experimental_preserve_all_tensors=True,
            num_threads=usable_cores(),
        )
    entry = interpreter.get_input_details()[0]["index"]
    generator = np.random.default_rng(0)
    moments = []
    for operator in operators:
        weights = file.weights(operator)
        moments.append(InputMoments(weights.shape[0], weights.shape[2]))
    chosen = moment_images(images)
    for start in range(0, len(chosen), BATCH):
        batch = chosen[start : start + BATCH]
        interpreter.resize_tensor_input(entry, batch.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(entry, batch)
        interpreter.invoke()
        for operator, layer_moments in zip(operators, moments):
            maps = interpreter.get_tensor(operator.inputs[0]).transpose(0, 3, 1, 2)
            groups = maps.shape[1] if file.is_depthwise(operator) else 1
            geometry = file.geometry(operator, maps.shape[2:])
            layer_moments.add(patches(maps, geometry, groups, POSITIONS, generator))
    return moments


def _round_weights(file, operator, weights, moments):
    """Replaces a convolution's weights in 8 bits and corrects its bias."""
    source, kernel, bias = operator.inputs[:3]
    scales = np.asarray(file.tensor(kernel).quantization.scale, np.float32)
    rounded = moments.round(weights, scales.reshape(weights.shape[:2]))
    shape = file.tensor(kernel).shape
    if file.is_depthwise(operator):
        whole = rounded.weights.reshape(shape[3], shape[1], shape[2]).transpose(1, 2, 0)[None]
    else:
        whole = rounded.weights.reshape(shape[0], shape[3], shape[1], shape[2])
        whole = whole.transpose(0, 2, 3, 1)
    file.set_data(kernel, np.ascontiguousarray(whole))
    steps = scales * file.tensor(source).quantization.scale[0]  # of the bias
    correction = np.round(rounded.mean_error.reshape(-1) / steps).astype(np.int32)
    file.set_data(bias, file.data(bias, np.int32) + correction)
