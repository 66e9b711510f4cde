"""The moving average of a model's weights (--ema)."""

import contextlib

import keras


def keeps_average(model):
    """bool, whether the optimizer of a compiled model keeps a moving average of the weights.

    Args:
        model: a compiled Keras model.
    """
    # Under float16 Keras wraps the optimizer in one that scales the loss.
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    return optimizer.use_ema


@contextlib.contextmanager
def averaged_weights(model):
    """A context in which a model has the moving average of its weights, if it keeps one.

    Args:
        model: a compiled Keras model.
    """
    swap = keras.callbacks.SwapEMAWeights()
    swap.set_model(model)
    if not keeps_average(model):
        yield
        return
    swap.on_test_begin()
    try:
        yield
    finally:
        swap.on_test_end()
