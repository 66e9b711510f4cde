"""A learning rate that warms up linearly, holds, and falls along a cosine.

Sources: the warm-up is Goyal et al., "Accurate, Large Minibatch SGD", 2017,
section 2.2; the cosine is Loshchilov and Hutter, "SGDR", 2016, equation 5,
without restarts.
"""

import math

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="toolkit")
class WarmupCosineDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Warm-up, hold, cosine.

    With step counted from 0:

    - step < warmup_steps: from `start_rate` on a line towards `peak_rate`, which
      is reached at step `warmup_steps`;
    - then `hold_steps` steps at `peak_rate`;
    - then half a cosine from `peak_rate` to `end_rate`, reached at `total_steps`;
    - beyond that, `end_rate`.

    Args:
        peak_rate: float, highest learning rate.
        total_steps: int, steps of the whole schedule.
        warmup_steps: int, steps of the warm-up, 0 for none.
        hold_steps: int, steps at the peak.
        start_rate: float, learning rate of step 0 when there is a warm-up.
        end_rate: float, last learning rate.

    Raises:
        ValueError: no steps, a negative number of steps or rate, or more
            warm-up and hold than steps.
    """

    def __init__(
        self, peak_rate, total_steps, warmup_steps=0, hold_steps=0, start_rate=0.0, end_rate=0.0
    ):
        super().__init__()
        if total_steps < 1 or min(warmup_steps, hold_steps) < 0:
            raise ValueError(
                "total_steps must be at least 1, warmup_steps and hold_steps at least 0. Received: "
                f"total_steps={total_steps}, warmup_steps={warmup_steps}, hold_steps={hold_steps}"
            )
        if warmup_steps + hold_steps > total_steps:
            raise ValueError(
                "warmup_steps + hold_steps must not exceed total_steps. Received: "
                f"{warmup_steps} + {hold_steps} > {total_steps}"
            )
        if min(peak_rate, start_rate, end_rate) < 0:
            raise ValueError(
                f"rates must not be negative. Received: peak_rate={peak_rate}, "
                f"start_rate={start_rate}, end_rate={end_rate}"
            )
        self.peak_rate = peak_rate
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps
        self.hold_steps = hold_steps
        self.start_rate = start_rate
        self.end_rate = end_rate

    def __call__(self, step):
        """The learning rate of a step: int or integer tensor -> float32 scalar tensor."""
        step = ops.cast(step, "float32")
        warm = self.start_rate + (self.peak_rate - self.start_rate) * (
            step / max(1, self.warmup_steps)
        )
        falling = self.total_steps - self.warmup_steps - self.hold_steps
        progress = (step - self.warmup_steps - self.hold_steps) / max(1, falling)
        cosine = 0.5 * (1 + ops.cos(math.pi * ops.clip(progress, 0.0, 1.0)))
        rate = self.end_rate + (self.peak_rate - self.end_rate) * cosine
        if falling == 0:  # nothing to fall along: the peak until the last step
            rate = ops.where(step < self.total_steps, self.peak_rate, self.end_rate)
        return ops.where(step < self.warmup_steps, warm, rate)

    def get_config(self):
        return {
            "peak_rate": self.peak_rate,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "hold_steps": self.hold_steps,
            "start_rate": self.start_rate,
            "end_rate": self.end_rate,
        }
