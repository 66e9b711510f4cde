"""The learning-rate schedule, held to the formula worked out by hand and to Keras's own."""

import keras
import numpy as np
import pytest

from warmup_cosine_decay_scheduler import WarmupCosineDecay

# cos(45 deg) = 0.70710678, cos(157.5 deg) = -0.92387953: a quarter, and seven eighths, of the
# way down the cosine stand at (1 + 0.70710678) / 2 and at (1 - 0.92387953) / 2 of the height.
QUARTER, LAST = 0.85355339, 0.03806023

PLAIN = {"peak_rate": 0.8, "total_steps": 8}
WARM = {"peak_rate": 0.8, "total_steps": 12, "warmup_steps": 4}
FULL = {"peak_rate": 0.8, "total_steps": 14, "warmup_steps": 4, "hold_steps": 2,
        "start_rate": 0.2, "end_rate": 0.1}
# The cosine takes 8 steps in each of the three.
TABLE = [
    # no warm-up: step 0 stands at the peak already
    (PLAIN, 0, 0.8), (PLAIN, 2, 0.8 * QUARTER), (PLAIN, 4, 0.4), (PLAIN, 7, 0.8 * LAST),
    (PLAIN, 8, 0.0), (PLAIN, 9, 0.0), (PLAIN, 100000, 0.0),
    # first, last of the warm-up, first after, middle, last, beyond
    (WARM, 0, 0.0), (WARM, 1, 0.2), (WARM, 3, 0.6), (WARM, 4, 0.8), (WARM, 6, 0.8 * QUARTER),
    (WARM, 8, 0.4), (WARM, 11, 0.8 * LAST), (WARM, 12, 0.0), (WARM, 13, 0.0),
    # from 0.2, over 0.8 twice more, down to 0.1
    (FULL, 0, 0.2), (FULL, 1, 0.35), (FULL, 3, 0.65), (FULL, 4, 0.8), (FULL, 5, 0.8),
    (FULL, 6, 0.8), (FULL, 8, 0.1 + 0.7 * QUARTER), (FULL, 10, 0.45),
    (FULL, 13, 0.1 + 0.7 * LAST), (FULL, 14, 0.1), (FULL, 15, 0.1), (FULL, 100000, 0.1),
]


@pytest.mark.parametrize("settings, step, rate", TABLE)
def test_rate_of_a_step(settings, step, rate):
    found = WarmupCosineDecay(**settings)(step)
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    assert found.shape == ()
    assert float(found) == pytest.approx(rate, rel=1e-6, abs=1e-7)  # of float32


def test_warm_up_to_the_very_end():
    schedule = WarmupCosineDecay(0.8, 4, warmup_steps=4, end_rate=0.1)
    rates = [float(schedule(step)) for step in range(6)]
    assert rates == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.1, 0.1])


def test_hold_to_the_very_end():
    schedule = WarmupCosineDecay(0.8, 4, warmup_steps=2, hold_steps=2)
    rates = [float(schedule(step)) for step in range(6)]
    assert rates == pytest.approx([0.0, 0.4, 0.8, 0.8, 0.0, 0.0])


@pytest.mark.parametrize("warmup, start, end", [(0, 0.0, 0.0), (10, 0.0, 0.0), (7, 1e-4, 2e-4)])
def test_equals_keras_where_keras_can_express_it(warmup, start, end):
    total, peak = 40, 3e-3
    ours = WarmupCosineDecay(
        peak, total, warmup_steps=warmup, start_rate=start, end_rate=end
    )
    if warmup:
        theirs = keras.optimizers.schedules.CosineDecay(
            start, total - warmup, alpha=end / peak, warmup_target=peak, warmup_steps=warmup
        )
    else:
        theirs = keras.optimizers.schedules.CosineDecay(peak, total, alpha=end / peak)
    steps = range(total + 5)
    np.testing.assert_allclose(
        [float(ours(step)) for step in steps], [float(theirs(step)) for step in steps],
        rtol=2e-6, atol=1e-9,
    )


def test_config_and_serialisation_give_the_same_schedule_back():
    ours = WarmupCosineDecay(**FULL)
    assert ours.get_config() == FULL
    copies = [
        WarmupCosineDecay.from_config(ours.get_config()),
        keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(ours)),
        keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(ours)),
        keras.optimizers.SGD.from_config(keras.optimizers.SGD(ours).get_config())._learning_rate,
    ]
    for copy in copies:
        assert type(copy) is WarmupCosineDecay
        assert copy.get_config() == FULL
        assert float(copy(10)) == pytest.approx(0.45)


def test_an_optimizer_takes_the_rate_of_its_step():
    variable = keras.Variable([10.0])
    optimizer = keras.optimizers.SGD(WarmupCosineDecay(**FULL))
    optimizer.build([variable])
    moved = []
    for _ in range(15):
        before = float(variable[0])
        optimizer.apply([np.ones(1, np.float32)])
        moved.append(before - float(variable[0]))
    expected = {0: 0.2, 1: 0.35, 3: 0.65, 4: 0.8, 5: 0.8, 6: 0.8, 10: 0.45, 14: 0.1}
    assert {step: moved[step] for step in expected} == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "change, received",
    [
        ({"total_steps": 0}, "total_steps=0"),
        ({"warmup_steps": -1}, "warmup_steps=-1"),
        ({"hold_steps": -1}, "hold_steps=-1"),
        ({"warmup_steps": 13}, "13 + 2 > 14"),
        ({"peak_rate": -0.1}, "peak_rate=-0.1"),
        ({"start_rate": -0.1}, "start_rate=-0.1"),
        ({"end_rate": -0.1}, "end_rate=-0.1"),
    ],
)
def test_refuses(change, received):
    with pytest.raises(ValueError) as error:
        WarmupCosineDecay(**{**FULL, **change})
    assert received in str(error.value)
