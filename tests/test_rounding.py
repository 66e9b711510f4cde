"""Weights in 8 bits whose errors cancel, folded convolutions, and int8 that runtimes compute."""

import itertools

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from export import onnx_int8
from export.folding import fold
from export.rounding import InputMoments, patches, scales_of
from prediction import openvino_predictor
from prediction.openvino_predictor import OpenVINOPredictor
from prediction.runtimes import onnx_session_options


def correlated(generator, count, size):
    """Rows like the pixels under a kernel: positive, and nearly the same."""
    return np.abs(generator.normal(1, 0.5, (count, 1)) + generator.normal(0, 0.1, (count, size)))


def test_rounding_against_every_other():
    """Of all ways to round up or down, enumerated, ours are near the best and nearest is far."""
    generator = np.random.default_rng(0)
    rows, weights = correlated(generator, 500, 8), generator.normal(0, 1, (20, 8))
    scales = np.abs(weights).max(axis=1) / 7  # a coarse grid, so that there is much to lose
    moments = InputMoments(1, 8)
    for part in np.split(rows, 5):
        moments.add(part[:, None, :].astype(np.float32))
    rounded = moments.round(weights[None], scales[None])
    ours, nearest, best = 0, 0, 0
    for number, (values, step) in enumerate(zip(weights, scales)):
        def error(whole, values=values, step=step):
            return rows @ (values - whole * step)

        low = np.floor(values / step)
        best += min(error(low + up).var() for up in itertools.product((0, 1), repeat=8))
        nearest += error(np.round(values / step)).var()
        own = error(rounded.weights[0, number])
        ours += own.var()  # the mean goes into the bias
        assert rounded.mean_error[0, number] == pytest.approx(own.mean(), abs=1e-5)
    assert ours < 2 * best and ours < nearest / 4


def test_weights_stay_in_seven_bits_and_a_sign():
    weights = np.array([[[3.0, -3.0, 0.1]]])
    moments = InputMoments(1, 3)
    moments.add(np.ones((4, 1, 3), np.float32))  # nothing varies: still invertible
    scales = scales_of(weights)
    assert scales[0, 0] == pytest.approx(3 / 127)
    whole = moments.round(weights, scales).weights[0, 0]
    assert whole[0] == 127 and whole[1] == -127 and abs(whole[2] - 0.1 * 127 / 3) < 1


class InOrder:
    def choice(self, count, size, replace):
        return np.arange(count)[:size]


@pytest.mark.parametrize("groups, strides, dilations, pads", [
    (1, [1, 1], [1, 1], [1, 1, 1, 1]), (6, [2, 2], [1, 1], [0, 1, 2, 1]),
    (2, [1, 2], [2, 1], [2, 0, 2, 0]),
])
def test_patches_make_a_convolution(groups, strides, dilations, pads):
    """Times the kernel they are what ONNX Runtime computes."""
    generator = np.random.default_rng(1)
    maps = generator.normal(size=(2, 6, 9, 8)).astype(np.float32)
    kernel = generator.normal(size=(6, 6 // groups, 3, 3)).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=groups, strides=strides,
                            dilations=dilations, pads=pads)
    expected = run(model([node], {"w": kernel}, maps.shape, "y"), maps)
    geometry = {"kernel": [3, 3], "strides": strides, "dilations": dilations, "pads": pads}
    rows = patches(maps, geometry, groups, 1000, InOrder())
    found = np.einsum("ngk,gok->ngo", rows, kernel.reshape(groups, 6 // groups, -1))
    found = found.reshape(2, -1, 6).transpose(0, 2, 1).reshape(expected.shape)
    assert np.abs(found - expected).max() < 1e-4


def model(nodes, constants, shape, output, input_type=TensorProto.FLOAT):
    graph = helper.make_graph(
        nodes, "graph", [helper.make_tensor_value_info("x", input_type, [None, *shape[1:]])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def run(built, x, optimized=""):
    options = onnx_session_options()
    if optimized:
        options.optimized_model_filepath = optimized
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    session = onnxruntime.InferenceSession(built.SerializeToString(), options)
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize("factor_shape, folded", [
    ((1, 4, 1, 1), True), ((4, 1, 1), True), ((), True), ((1, 1, 1, 7), False),
])
def test_folding_changes_no_answer(factor_shape, folded):
    generator = np.random.default_rng(2)
    constants = {"w": generator.normal(size=(4, 1, 3, 3)).astype(np.float32),
                 "factor": generator.normal(size=factor_shape).astype(np.float32),
                 "offset": generator.normal(size=(1, 4, 1, 1)).astype(np.float32)}
    built = model([helper.make_node("Conv", ["x", "w"], ["a"], group=4, pads=[1, 1, 1, 1]),
                   helper.make_node("Mul", ["a", "factor"], ["b"]),
                   helper.make_node("Add", ["b", "offset"], ["c"]),
                   helper.make_node("Relu", ["c"], ["y"])], constants, (2, 4, 7, 7), "y")
    x = generator.normal(size=(2, 4, 7, 7)).astype(np.float32)
    expected = run(built, x)
    fold(built.graph)
    assert np.abs(run(built, x) - expected).max() < 1e-5
    kinds = [node.op_type for node in built.graph.node]
    assert kinds == (["Conv", "Relu"] if folded else ["Conv", "Mul", "Add", "Relu"])


def test_a_range_cuts_off_where_it_costs_least():
    """For a normal distribution in 8 bits at 3.92 deviations (Banner et al. 2019, table 1)."""
    values = np.random.default_rng(3).normal(0, 2, 200_000)
    low, high = onnx_int8._range(values)
    assert 3.7 < high / 2 < 4.2 and 3.7 < -low / 2 < 4.2
    assert onnx_int8._range(np.clip(values, 0, 6))[0] == 0


def inverted_residual(generator, channels=8):
    """Scaling of pixels and two blocks like those of EfficientNet-Lite, folded."""
    constants = {"scale": np.float32(1 / 128), "shift": np.float32(-1),
                 "low": np.float32(0), "high": np.float32(6)}
    nodes = [helper.make_node("Cast", ["x"], ["pixels"], to=TensorProto.FLOAT),
             helper.make_node("Mul", ["pixels", "scale"], ["scaled"]),
             helper.make_node("Add", ["scaled", "shift"], ["source"])]

    def conv(name, source, shape, group=1, clip=True):
        fan = np.prod(shape[1:])
        constants[name + "_w"] = generator.normal(0, 1.5 / fan**0.5, shape).astype(np.float32)
        constants[name + "_b"] = generator.normal(0, 0.3, shape[0]).astype(np.float32)
        side = shape[2] // 2
        nodes.append(helper.make_node("Conv", [source, name + "_w", name + "_b"], [name],
                                      group=group, pads=[side] * 4))
        if clip:
            nodes.append(helper.make_node("Clip", [name, "low", "high"], [name + "_clip"]))
        return name + "_clip" if clip else name

    stream = conv("stem", "source", (channels, 3, 3, 3), clip=False)
    for block in "ab":
        wide = conv(block + "1", stream, (4 * channels, channels, 1, 1))
        deep = conv(block + "2", wide, (4 * channels, 1, 3, 3), 4 * channels)
        narrow = conv(block + "3", deep, (channels, 4 * channels, 1, 1), clip=False)
        nodes.append(helper.make_node("Add", [narrow, stream], [block]))
        stream = block
    constants["dense"] = generator.normal(0, 0.5, (channels, 5)).astype(np.float32)
    nodes += [helper.make_node("GlobalAveragePool", [stream], ["pooled"]),
              helper.make_node("Flatten", ["pooled"], ["flat"]),
              helper.make_node("MatMul", ["flat", "dense"], ["y"])]
    return model(nodes, constants, (1, 3, 16, 16), "y", TensorProto.UINT8)


def photos(count, seed):
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (count, 3, 4, 4))
    return np.kron(coarse, np.ones((1, 1, 4, 4))).astype(np.uint8)


def test_every_convolution_is_computed_in_int8(tmp_path):
    """ONNX Runtime has joined each with its roundings into one operator, and the answers stay."""
    built = inverted_residual(np.random.default_rng(4))
    x = photos(64, 5)
    expected = run(built, x)
    onnx_int8.quantize(built, "x", photos(64, 6))
    found = run(built, x, str(tmp_path / "optimized.onnx"))
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert kinds.count("QLinearConv") == 7 and "Conv" not in kinds
    most = np.square(expected - expected.mean(axis=0)).mean() / 250  # 24 dB
    assert np.square(found - expected).mean() < most
    onnx.save(built, tmp_path / "int8.onnx")
    [found] = OpenVINOPredictor(str(tmp_path / "int8.onnx"), ("y",))(x)
    assert (np.square(found - expected).mean() < most) != openvino_predictor.sums_overflow()


def test_whether_sums_overflow_is_what_a_convolution_shows():
    """Weights of 127 on inputs of 255: right here, or half of it where pairs end at 32,767."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "one", "zero"], ["whole"]),
        helper.make_node("DequantizeLinear", ["whole", "one", "zero"], ["rounded"]),
        helper.make_node("DequantizeLinear", ["w", "one", "none"], ["weights"]),
        helper.make_node("Conv", ["rounded", "weights"], ["y"]),
    ]
    constants = {"one": np.float32(1), "zero": np.uint8(0), "none": np.int8(0),
                 "w": np.full((4, 16, 1, 1), 127, np.int8)}
    path = model(nodes, constants, (1, 16, 1, 1), "y").SerializeToString()
    compiled = openvino_predictor.core().compile_model(
        openvino_predictor.core().read_model(path), "CPU")
    [values] = compiled(np.full((1, 16, 1, 1), 255, np.float32)).values()
    right, pairs = 16 * 255 * 127, 8 * (2**15 - 1)
    assert set(values.ravel()) == {pairs if openvino_predictor.sums_overflow() else right}


def test_the_first_convolutions_of_a_large_network_stay_in_float32(monkeypatch):
    monkeypatch.setattr(onnx_int8, "FLOAT_CONVOLUTIONS", 2)
    built = inverted_residual(np.random.default_rng(4))
    onnx_int8.quantize(built, "x", photos(8, 6))
    kinds = {constant.name: constant.data_type for constant in built.graph.initializer
             if len(constant.dims) == 4}
    assert [name for name, kind in kinds.items() if kind == TensorProto.FLOAT] == [
        "stem_w", "a1_w"]
    assert onnx_int8.first_convolutions(6) == 0
