"""An ONNX file that computes in int8, laid out so that ONNX Runtime and OpenVINO both do.

Each tensor that a convolution or a dense layer takes is rounded to one of 256 values of its range
(Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", section 2), and so is what a convolution gives, without which
ONNX Runtime computes it in float32. Sums of branches stay in float32: what is rounded there would
stay in all later blocks.
"""

from typing import NamedTuple

import numpy as np

from export.rounding import InputMoments, patches, scales_of
from modeling.layer_names import SIMILARITY_LAYER
from prediction.runtimes import onnx_session_options

# The first ones see large even areas, such as white margins, where a rounding error is the same
# everywhere and does not average out; they hold next to no weights.
FLOAT_CONVOLUTIONS = 9
MOMENT_IMAGES = 256
POSITIONS = 64  # of each image, whose inputs determine the rounding
BATCH = 8
LEVELS = 255  # steps between the ends of a range
SAMPLES = 4096  # of a tensor's values in each batch, which determine its range
SHRINKING = np.linspace(0.3, 1, 29)  # fractions of a range that are tried
ZERO_KEEPING = ("Pad", "Transpose")  # between a tensor and the layer that takes it
# What may take the output of a convolution in 8 bits; gates of other activations lose too much.
ROUNDED_CONSUMERS = {
    *("Add", "AveragePool", "Concat", "Conv", "GlobalAveragePool", "MatMul", "MaxPool"),
    *("Pad", "ReduceMean", "Transpose"),
}


class Layer(NamedTuple):
    """A convolution or a dense layer whose weights are constant.

    Attributes:
        node: ONNX node.
        source: str, name of the tensor that it takes, before padding and transposing.
        weights: float32 (G, O, K), G groups, O outputs each, of K inputs.
        geometry: dict as `rounding.patches` takes it; None for a dense layer.
    """

    node: object
    source: str
    weights: np.ndarray
    geometry: dict | None


def quantize(model, input_name, images):
    """Makes a model compute in int8.

    Args:
        model: ONNX model in float32, with folded convolutions; it is changed.
        input_name: str, name of its input.
        images: uint8 (N, S, S, 3), typical images.
    """
    graph = _Graph(model.graph)
    layers = graph.layers()
    convolutions = [layer for layer in layers if layer.geometry]
    kept_count = first_convolutions(len(convolutions))
    kept = {layer.node.output[0] for layer in convolutions[:kept_count]}
    layers = [layer for layer in layers if layer.node.output[0] not in kept]
    outputs = {graph.rounded_output(layer.node) for layer in layers if layer.geometry} - {""}
    sources = {layer.source for layer in layers}
    moments, ranges = _observe(model, layers, sources | outputs, input_name, images)
    for layer in layers:
        graph.round_weights(layer, moments[layer.node.output[0]])
    for name in sorted(sources | outputs):
        graph.round_tensor(name, ranges[name], layers, everywhere=name in outputs)
    graph.sort()


def first_convolutions(count):
    """How many of a network's convolutions, the first ones, stay in float32.

    Args:
        count: int, number of its convolutions.

    Returns:
        int; 0 for a small network, of which they would be most.
    """
    return FLOAT_CONVOLUTIONS if count > 3 * FLOAT_CONVOLUTIONS else 0


def moment_images(images):
    """At most `MOMENT_IMAGES` of the images, evenly over them.

    Args:
        images: uint8 (N, S, S, 3).

    Returns:
        uint8 (at most `MOMENT_IMAGES`, S, S, 3).
    """
    count = min(len(images), MOMENT_IMAGES)
    return images[np.linspace(0, len(images) - 1, count).astype(int)]


def _observe(model, layers, names, input_name, images):
    """(dict of layer -> `InputMoments`, dict of tensor -> (lowest, highest))."""
    import onnx
    import onnxruntime

    taken = {layer.node.input[0] for layer in layers}
    fetched = sorted(names | taken)
    seen = onnx.ModelProto()
    seen.CopyFrom(model)
    known = {output.name for output in seen.graph.output}
    seen.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(name) for name in fetched if name not in known
    )
    session = onnxruntime.InferenceSession(
        seen.SerializeToString(), onnx_session_options(), providers=["CPUExecutionProvider"]
    )
    generator = np.random.default_rng(0)
    moments = {
        layer.node.output[0]: InputMoments(layer.weights.shape[0], layer.weights.shape[2])
        for layer in layers
    }
    samples = {name: [] for name in names}
    chosen = moment_images(images)
    for start in range(0, len(chosen), BATCH):
        batch = chosen[start : start + BATCH]
        values = dict(zip(fetched, session.run(fetched, {input_name: batch})))
        for name in names:
            flat = values[name].reshape(-1)
            chosen_values = flat[generator.integers(0, flat.size, SAMPLES)]
            # The ends count for more than their share: few photos have such values, but those
            # photos would change their class first.
            samples[name].extend([chosen_values, [flat.min(), flat.max()]])
        for layer in layers:
            value, name = values[layer.node.input[0]], layer.node.output[0]
            moments[name].add(_rows(value, layer, generator))
    return moments, {name: _range(np.concatenate(samples[name])) for name in names}


def _rows(value, layer, generator):
    if layer.geometry is None:
        rows = value.reshape(-1, 1, value.shape[-1])
        most = POSITIONS * len(value)
        return rows[generator.permutation(len(rows))[:most]] if len(rows) > most else rows
    groups = layer.weights.shape[0]
    return patches(value, layer.geometry, groups, POSITIONS, generator)


def _range(values):
    """The range around 0 in which rounding and cutting off lose least in the mean square.

    Args:
        values: float (N,), some of a tensor's values.

    Returns:
        (float, float).
    """
    lowest, highest = min(values.min(), 0), max(values.max(), 0)
    moving = values[np.abs(values) > 1e-6]  # zero is always exact
    best = (np.inf, lowest, highest)
    for low in lowest * SHRINKING if lowest < 0 else [0.0]:
        for high in highest * SHRINKING if highest > 0 else [0.0]:
            step = (high - low) / LEVELS
            beyond = moving - np.clip(moving, low, high)
            loss = (beyond**2).mean() + step**2 / 12 if moving.size else 0
            best = min(best, (loss, low, high))
    return best[1:]


class _Graph:
    """An ONNX graph whose constants, producers and consumers are known by name."""

    def __init__(self, graph):
        self.graph = graph
        self.constants = {constant.name: constant for constant in graph.initializer}
        self.producers = {name: node for node in graph.node for name in node.output}
        self.consumers = {}
        for node in graph.node:
            for name in node.input:
                self.consumers.setdefault(name, []).append(node)

    def layers(self):
        """List of `Layer`, in the order of the graph."""
        from onnx import numpy_helper

        layers = []
        for node in self.graph.node:
            if node.op_type not in ("Conv", "MatMul") or node.input[1] not in self.constants:
                continue
            if SIMILARITY_LAYER in node.name:
                continue
            weights = numpy_helper.to_array(self.constants[node.input[1]])
            source = node.input[0]
            while source in self.producers and self.producers[source].op_type in ZERO_KEEPING:
                source = self.producers[source].input[0]
            if source not in self.producers:
                continue
            if node.op_type == "MatMul" and weights.ndim == 2:
                layers.append(Layer(node, source, weights.T[None], None))
            elif node.op_type == "Conv" and weights.ndim == 4:
                geometry, groups = _geometry(node, weights.shape[2:])
                grouped = weights.reshape(groups, len(weights) // groups, -1)
                layers.append(Layer(node, source, grouped, geometry))
        return layers

    def rounded_output(self, node):
        """Name of the tensor that a convolution gives, after ReLU; "" if it is not rounded."""
        name = node.output[0]
        consumers = self.consumers.get(name, [])
        if len(consumers) == 1 and consumers[0].op_type in ("Clip", "Relu"):
            name = consumers[0].output[0]
            consumers = self.consumers.get(name, [])
        rounded = consumers and {node.op_type for node in consumers} <= ROUNDED_CONSUMERS
        return name if rounded else ""

    def _add(self, name, values):
        from onnx import numpy_helper

        self.graph.initializer.append(numpy_helper.from_array(values, name))
        return name

    def round_weights(self, layer, moments):
        """Replaces a layer's weights by 8 bits and corrects its bias."""
        from onnx import helper, numpy_helper

        node, name = layer.node, layer.node.output[0]
        scales = scales_of(layer.weights)
        rounded = moments.round(layer.weights, scales)
        correction = rounded.mean_error.reshape(-1).astype(np.float32)
        whole = rounded.weights
        if layer.geometry:
            shape = tuple(self.constants[node.input[1]].dims)
            whole, axis = whole.reshape(shape), 0
            if len(node.input) > 2:
                correction += numpy_helper.to_array(self.constants[node.input[2]])
            del node.input[2:]
            node.input.append(self._add(name + "_bias", correction))
        else:
            whole, axis = np.ascontiguousarray(whole[0].T), 1
            self._correct_dense(node, correction)
        inputs = [
            self._add(name + "_int8", whole),
            self._add(name + "_scale", scales.reshape(-1)),
            self._add(name + "_zero", np.zeros(scales.size, np.int8)),
        ]
        weight_name = name + "_weights"
        node.input[1] = weight_name
        self.graph.node.append(
            helper.make_node("DequantizeLinear", inputs, [weight_name], weight_name, axis=axis)
        )

    def _correct_dense(self, node, correction):
        """Adds to the bias that follows a dense layer, where one does."""
        from onnx import numpy_helper

        consumers = self.consumers.get(node.output[0], [])
        if len(consumers) != 1 or consumers[0].op_type != "Add":
            return
        addition = consumers[0]
        for position, name in enumerate(addition.input):
            if name in self.constants and self.constants[name].dims == [len(correction)]:
                bias = numpy_helper.to_array(self.constants[name]) + correction
                addition.input[position] = self._add(addition.output[0] + "_bias", bias)

    def round_tensor(self, name, limits, layers, everywhere):
        """Rounds a tensor to 8 bits, for the layers that take it or for all that do."""
        from onnx import helper

        low, high = limits
        step = np.float32((high - low) / LEVELS or 1)
        zero = np.uint8(np.clip(np.round(-low / step), 0, LEVELS))
        settings = [self._add(name + "_step", step), self._add(name + "_offset", zero)]
        whole, rounded = name + "_uint8", name + "_rounded"
        takers = self.consumers[name]
        if not everywhere:
            outputs = {layer.node.output[0] for layer in layers if layer.source == name}
            takers = [node for node in takers if self._leads_to(node, outputs)]
        for node in takers:
            node.input[:] = [rounded if taken == name else taken for taken in node.input]
        self.graph.node.extend(
            [
                helper.make_node("QuantizeLinear", [name, *settings], [whole], whole),
                helper.make_node("DequantizeLinear", [whole, *settings], [rounded], rounded),
            ]
        )

    def _leads_to(self, node, outputs):
        if node.op_type not in ZERO_KEEPING:
            return node.output[0] in outputs
        return all(self._leads_to(taker, outputs) for taker in self.consumers[node.output[0]])

    def sort(self):
        """Puts the nodes in the order in which they can be computed; drops unused constants."""
        nodes = list(self.graph.node)
        producers = {name: node for node in nodes for name in node.output}
        ordered, placed = [], set()
        pending = list(reversed(nodes))
        while pending:
            node = pending[-1]
            missing = [
                producers[name]
                for name in node.input
                if name in producers and producers[name].output[0] not in placed
            ]
            if node.output[0] not in placed and missing:
                pending.extend(missing)
                continue
            pending.pop()
            if node.output[0] not in placed:
                placed.add(node.output[0])
                ordered.append(node)
        used = {name for node in ordered for name in node.input}
        constants = [each for each in self.graph.initializer if each.name in used]
        del self.graph.node[:], self.graph.initializer[:]
        self.graph.node.extend(ordered)
        self.graph.initializer.extend(constants)


def _geometry(node, kernel):
    """(dict as `rounding.patches` takes it, number of groups) of a convolution."""
    from onnx import helper

    attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    dilations = list(attributes.get("dilations", [1, 1]))
    pads = list(attributes.get("pads", [0, 0, 0, 0]))
    if attributes.get("auto_pad", b"NOTSET") == b"SAME_UPPER":  # which tf2onnx writes at stride 1
        total = [(side - 1) * dilation for side, dilation in zip(kernel, dilations)]
        before = [side // 2 for side in total]
        pads = before + [side - first for side, first in zip(total, before)]
    geometry = {
        "kernel": list(kernel),
        "strides": list(attributes.get("strides", [1, 1])),
        "dilations": dilations,
        "pads": pads,
    }
    return geometry, attributes.get("group", 1)
