"""A learning rate schedule: linear warm-up, hold, cosine decay.

The warm-up is that of Goyal et al. 2017, "Accurate, Large Minibatch SGD", section 2.2; the
decay that of Loshchilov and Hutter 2016, "SGDR", equation 5, without restarts.
"""

import math

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="toolkit")
class WarmupCosineDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that warms up linearly, holds, and decays along a cosine.

    With steps counted from 0:

    - for `warmup_steps` steps it rises linearly from `start_rate`, and reaches `peak_rate` at
      step `warmup_steps`;
    - for `hold_steps` steps it stays at `peak_rate`;
    - then it falls along half a cosine, and reaches `end_rate` at step `total_steps`;
    - after that it stays at `end_rate`.

    Keras's own `CosineDecay` has no hold, and its `decay_steps` do not include the warm-up.

    Args:
        peak_rate: float, the highest learning rate, 0 or more.
        total_steps: int, steps of the whole schedule, 1 or more.
        warmup_steps: int, steps of the warm-up; 0 for none.
        hold_steps: int, steps at `peak_rate`; 0 for none.
        start_rate: float, learning rate of step 0 if there is a warm-up, 0 or more.
        end_rate: float, the last learning rate, 0 or more.

    Raises:
        ValueError: `total_steps` is below 1, a number is negative, or warm-up and hold have
            more steps than the whole schedule.

    Example:
        >>> schedule = WarmupCosineDecay(1e-3, total_steps=1000, warmup_steps=100)
        >>> round(float(schedule(50)), 6)
        0.0005
        >>> optimizer = keras.optimizers.AdamW(schedule)
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
        """The learning rate of a step.

        Args:
            step: int or integer scalar tensor, from 0.

        Returns:
            float32 scalar tensor.
        """
        step = ops.cast(step, "float32")
        warmup_rate = self.start_rate + (self.peak_rate - self.start_rate) * (
            step / max(1, self.warmup_steps)
        )
        decay_steps = self.total_steps - self.warmup_steps - self.hold_steps
        progress = (step - self.warmup_steps - self.hold_steps) / max(1, decay_steps)
        cosine = 0.5 * (1 + ops.cos(math.pi * ops.clip(progress, 0.0, 1.0)))
        decayed_rate = self.end_rate + (self.peak_rate - self.end_rate) * cosine
        if decay_steps == 0:  # no step to decay in: the peak until the last step
            decayed_rate = ops.where(step < self.total_steps, self.peak_rate, self.end_rate)
        return ops.where(step < self.warmup_steps, warmup_rate, decayed_rate)

    def get_config(self):
        return {
            "peak_rate": self.peak_rate,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "hold_steps": self.hold_steps,
            "start_rate": self.start_rate,
            "end_rate": self.end_rate,
        }
