"""Every place that changes objects of Keras or depends on its internals.

Written for Keras 3.15. `tests/test_keras_patches.py` shows for each why it is needed, and fails
when a version of Keras no longer needs it: then remove it here.
"""

import functools

import numpy as np


def remember_skipped_attributes():
    """Halves the time that saving weights takes.

    `saving_lib.get_attr_skipset` stores its result under "saving_attr_skipset_..." but looks it
    up under "saving_attr_skiplist_...", so it computes the result again for every layer. The
    result depends on nothing but the argument.
    """
    from keras.src.saving import saving_lib

    if not hasattr(saving_lib.get_attr_skipset, "cache_info"):
        saving_lib.get_attr_skipset = functools.cache(saving_lib.get_attr_skipset)


def skip_steps(model, count):
    """Makes the next `count` steps of a model's `fit` take their batch without computing.

    `fit` can begin at a later epoch, but not at a later step of an epoch.

    Args:
        model: compiled `keras.Model` with metrics that have been built, inside `fit`, where
            its `train_function` exists.
        count: int, 1 or more. The logs of these steps are the metrics at the time of this call.
    """
    train_function = model.train_function
    logs = {name: float(value) for name, value in model.get_metrics_result().items()}
    steps_left = count

    def skip_step(*arguments):
        nonlocal steps_left
        steps_left -= 1
        if not steps_left:
            model.train_function = train_function
        *state, batches = arguments  # JAX passes its state from step to step
        next(batches)
        return (logs, *state) if state else logs

    model.train_function = skip_step


def log_one_step_late(model):
    """Lets a model's `fit` begin a step before the logs of the step before are there.

    Keras reads the logs of each step, for the callbacks, before it prepares the next one: a GPU
    waits meanwhile, on an H200 for a fifth of the time. Here the logs of a step are those of the
    step before; of the very first step, its own. An epoch's logs are not affected.

    Args:
        model: compiled `keras.Model`; is changed. May be called again when it is compiled again.
    """
    make_train_function = type(model).make_train_function  # not one that is late already

    def make_late(force=False):
        if model.train_function is not None and not force:
            return
        make_train_function(model, force)
        step, last_logs = model.train_function, None

        def late_step(*arguments):
            nonlocal last_logs
            result = step(*arguments)
            logs, *state = result if isinstance(result, tuple) else (result,)  # JAX has a state
            logs, last_logs = last_logs or logs, logs
            return (logs, *state) if state else logs

        model.train_function = late_step

    model.make_train_function = make_late


def build_metrics(model, classes):
    """Creates the variables of a compiled model's metrics, which Keras does in the first step.

    Args:
        model: compiled `keras.Model` with outputs (B, C); its metrics are reset.
        classes: int, number of classes C.
    """
    row = np.full((1, classes), 1 / classes, np.float32)
    model.compute_metrics(None, row, row, np.ones(1, np.float32))
    model.reset_metrics()


def mean_over_devices(loss):
    """Makes the mean of a loss that of the whole batch, not the mean of each device's means.

    Under a `tf.distribute` strategy Keras divides the sum over a device's rows by their weight,
    and the sum of the devices' losses by their number. The rows of a device that has fewer, in
    the last batch for instance, would count more.

    Args:
        loss: `keras.losses.Loss` with the reduction "mean_with_sample_weight"; is changed.

    Returns:
        The same loss.
    """
    import keras
    import tensorflow as tf

    class MeanOverDevices(type(loss)):
        def __call__(self, y_true, y_pred, sample_weight=None):
            device_mean = super().__call__(y_true, y_pred, sample_weight)
            replica = tf.distribute.get_replica_context()
            if replica is None:  # Keras asks for the shape only
                return device_mean
            device_weight = tf.reduce_sum(sample_weight)
            total_weight = replica.all_reduce(tf.distribute.ReduceOp.SUM, device_weight)
            fraction = tf.math.divide_no_nan(device_weight, total_weight)
            factor = keras.ops.cast(fraction * replica.num_replicas_in_sync, device_mean.dtype)
            return device_mean * factor

    loss.__class__ = MeanOverDevices
    return loss


def build_from_one_device(model):
    """Lets a model of several devices learn shapes from a batch that they share unevenly.

    Before it trains or evaluates, Keras takes the mean of the first batch over the devices of a
    `tf.distribute` strategy, which fails where one has fewer rows. The part of one device has
    the same shapes.

    Args:
        model: `keras.Model`, made under the strategy.
    """
    import tensorflow as tf

    build = model._maybe_symbolic_build

    def build_from_part(iterator=None, data_batch=None):
        if iterator is not None:
            _, _, batches = next(iter(iterator))
            data_batch = tf.nest.map_structure(_first_part, next(batches))
        build(data_batch=data_batch)

    model._maybe_symbolic_build = build_from_part


def _first_part(value):
    """The part of the first device, of a value that several have."""
    import tensorflow as tf

    return value.values[0] if isinstance(value, tf.distribute.DistributedValues) else value


def synchronize_batch_norm(model):
    """Makes every BatchNormalization of a model use the statistics of the whole batch.

    `synchronized` is an argument of the layer's constructor only, and these layers have been
    built by then, some inside other layers.

    Args:
        model: `keras.Model`.
    """
    for layer in batch_norm_layers(model):
        layer.synchronized = True


def batch_norm_layers(model):
    """Every BatchNormalization of a model, those inside other layers as well.

    Args:
        model: `keras.Model`.

    Returns:
        list of `keras.layers.BatchNormalization`.
    """
    import keras

    return [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]


def with_learning_rate_factors(optimizer_class, factors):
    """Gives an optimizer class a factor on the learning rate of each variable.

    Scaling the gradients instead would change nothing: most optimizers divide by their size.

    Args:
        optimizer_class: subclass of `keras.optimizers.Optimizer`.
        factors: dict of a variable's path -> float; variables that are not in it have 1.

    Returns:
        Subclass of `optimizer_class` with the same name.
    """

    class WithLearningRateFactors(optimizer_class):
        def update_step(self, gradient, variable, learning_rate):
            # On TensorFlow `variable` is not Keras's own and has no path.
            path = self._trainable_variables[self._get_variable_index(variable)].path
            super().update_step(gradient, variable, learning_rate * factors.get(path, 1.0))

    WithLearningRateFactors.__name__ = optimizer_class.__name__
    return WithLearningRateFactors


def with_clipping_of_the_sum(optimizer_class):
    """Makes an optimizer class clip the sum of the devices' gradients.

    Under a `tf.distribute` strategy Keras clips each device's gradients and then adds them up.

    Args:
        optimizer_class: subclass of `keras.optimizers.Optimizer`.

    Returns:
        Subclass of `optimizer_class` with the same name.
    """
    import tensorflow as tf

    class WithClippingOfTheSum(optimizer_class):
        def _clip_gradients(self, gradients):
            replica = tf.distribute.get_replica_context()
            summed_gradients = replica.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
            clipped_gradients = super()._clip_gradients(summed_gradients)
            # The update adds up the devices' again.
            return [gradient / replica.num_replicas_in_sync for gradient in clipped_gradients]

    WithClippingOfTheSum.__name__ = optimizer_class.__name__
    return WithClippingOfTheSum
