"""--minutes: how many epochs fit into a time budget, by the speed of the first steps."""

import time

import numpy as np

WARM_UP_STEPS, TIMED_STEPS = 2, 6
# Of a training step's time, what computing features takes at most; on a processor it is a quarter.
FORWARD_FRACTION = 1 / 3


def time_steps(model, batches):
    """Measures training steps, after which the model is what it was.

    Args:
        model: a compiled Keras model.
        batches: `ImageBatches` to train on.

    Returns:
        (first, step): seconds of the first steps, in which the graph is made, and seconds of
        each one after them, with reading its images.
    """
    values = [np.array(variable) for variable in model.variables]
    marks = [time.monotonic()]
    for index in range(WARM_UP_STEPS + TIMED_STEPS):
        model.train_on_batch(*batches[index % len(batches)])
        marks.append(time.monotonic())
    for variable, value in zip(model.variables, values):
        variable.assign(value)
    model.reset_metrics()
    return marks[WARM_UP_STEPS] - marks[0], float(np.median(np.diff(marks[WARM_UP_STEPS:])))


def count_epochs(
    seconds_left, first_seconds, step_seconds, training_steps, validation_steps, mirrored=None
):
    """How many epochs of all layers fit into what is left of a budget.

    Args:
        seconds_left: float.
        first_seconds: float, seconds of the first steps, in which the graph is made.
        step_seconds: float, seconds of a step.
        training_steps: int, steps per epoch.
        validation_steps: int, batches of the validation images.
        mirrored: bool, whether the head is solved on mirrored images as well; None where it is
            not solved.

    Returns:
        int, 0 or more.

    Example:
        >>> count_epochs(280, 8.0, 0.5, training_steps=24, validation_steps=3, mirrored=True)
        20
    """
    forward_seconds = FORWARD_FRACTION * step_seconds
    head_seconds = 0.0
    if mirrored is not None:
        passes = training_steps * (2 if mirrored else 1) + validation_steps
        head_seconds = first_seconds + passes * forward_seconds
    epoch_seconds = training_steps * step_seconds + validation_steps * forward_seconds
    seconds_left -= first_seconds + head_seconds
    return max(0, int(seconds_left / epoch_seconds))
