"""The model of a training, and what it is compiled with: loss, optimizer, scores, XLA."""

import numpy as np

from compute.backend import has_gpu
from compute.devices import over_devices, synchronize
from runs import run_folder
from training.learning_rates import step_rate

FROZEN_RATE = 10  # times the learning rate: a new head has farther to go than a trained backbone


def make_model(job):
    """The model of a job, not compiled."""
    import keras

    from modeling.builder import build_model

    model = build_model(
        classes=len(job.class_names),
        weights="none" if job.checkpoint else job.options.weights,
        **run_folder.architecture(job.options),
    )
    if job.options.sync_batchnorm and keras.backend.backend() == "tensorflow":
        synchronize(model)  # on JAX it is so by itself
    return model


def compile_model(model, job, stage, steps, devices, margins=(), halvings=0):
    """Compiles a model for a stage.

    Args:
        model: a Keras model.
        job: the `Job`.
        stage: `trainer.Stage`.
        steps: steps an epoch.
        devices: `devices.Devices` to train on.
        margins: `label_margins.Margins`, none or one.
        halvings: how often the learning rate is halved.
    """
    import keras

    from modeling.builder import backbone_layers
    from training import callbacks
    from training.optimizers import layer_rates, make_optimizer

    options = job.options
    rates = None
    if options.layer_decay < 1:
        rates = layer_rates(backbone_layers(model), options.layer_decay)
    warmup = 0 if stage.frozen else options.warmup_epochs
    loss = make_loss(job)
    # Made first: `over_devices` changes what the loss does.
    mean_loss = keras.metrics.MeanMetricWrapper(loss.call, name=callbacks.MEAN_LOSS)
    model.compile(
        optimizer=make_optimizer(
            options.optimizer,
            step_rate(options) * (FROZEN_RATE if stage.frozen else 1) * 0.5**halvings,
            (stage.last - stage.first) * steps,
            round(warmup * steps),
            options.weight_decay,
            options.clipnorm,
            options.accumulate,
            options.ema,
            rates,
            devices.strategy is not None,
        ),
        loss=over_devices(loss) if devices.strategy else loss,
        weighted_metrics=[keras.metrics.CategoricalAccuracy("accuracy"), mean_loss, *margins],
        jit_compile=jit_compile(options.jit),
    )
    model.optimizer.build(model.trainable_variables)


def make_loss(job):
    """The loss of a job; rows of weight 0 leave its mean as well as its sum."""
    import keras

    options = job.options
    if options.loss == "cross_entropy" and options.class_weights == "none":
        return keras.losses.CategoricalCrossentropy(reduction="mean_with_sample_weight")
    from other.focal_loss import FocalLoss, class_weights

    weights = None
    if options.class_weights != "none":
        counts = np.bincount(job.training.class_ids, minlength=len(job.class_names))
        weights = class_weights(counts, options.class_weights)
    gamma = options.focal_gamma if options.loss == "focal" else 0.0
    return FocalLoss(gamma, weights)


def jit_compile(wanted):
    """XLA makes a step on a processor six times slower, and pays on a GPU."""
    import keras

    if wanted != "auto":
        return wanted == "on"
    if keras.backend.backend() != "tensorflow":
        return "auto"
    return "auto" if has_gpu() else False
