"""The model of a training, and what it is compiled with: loss, optimizer, metrics, XLA."""

import keras
import numpy as np

from compute.backend import has_gpu
from compute.keras_patches import (
    build_from_one_device,
    log_one_step_late,
    mean_over_devices,
    synchronize_batch_norm,
)
from modeling.builder import backbone_layers, build_model
from other.focal_loss import FocalLoss, class_weights
from runs import run_folder
from training.callbacks import MEAN_LOSS
from training.learning_rates import peak_learning_rate
from training.optimizers import layer_factors, make_optimizer
from warmup_cosine_decay_scheduler import WarmupCosineDecay


def make_model(setup):
    """Builds the model of a training, not compiled.

    Args:
        setup: `TrainingSetup`; with a checkpoint no weights are brought.

    Returns:
        Keras model from uint8 (B, S, S, 3) to float32 probabilities (B, C).
    """
    model = build_model(
        run_folder.architecture(setup.options),
        classes=len(setup.class_names),
        weights="none" if setup.checkpoint else setup.options.weights,
    )
    if setup.options.sync_batchnorm and keras.backend.backend() == "tensorflow":
        synchronize_batch_norm(model)  # on JAX it is so by itself
    return model


def compile_model(model, setup, stage, steps_per_epoch, devices, margins=(), lr_reductions=0):
    """Compiles a model for a stage.

    Args:
        model: the Keras model that is fitted, the run's or its head.
        setup: `TrainingSetup`.
        stage: `Stage`.
        steps_per_epoch: int.
        devices: `Devices` to train on.
        margins: tuple of one `Margins`, or empty.
        lr_reductions: int, how often the learning rate is halved.
    """
    options = setup.options
    loss = make_loss(setup)
    # Made first: `mean_over_devices` changes what the loss does.
    mean_loss = keras.metrics.MeanMetricWrapper(loss.call, name=MEAN_LOSS)
    model.compile(
        optimizer=_stage_optimizer(
            model, options, stage, steps_per_epoch, lr_reductions, devices.strategy is not None
        ),
        loss=mean_over_devices(loss) if devices.strategy else loss,
        weighted_metrics=[keras.metrics.CategoricalAccuracy("accuracy"), mean_loss, *margins],
        jit_compile=jit_compile(options.jit),
    )
    log_one_step_late(model)
    model.optimizer.build(model.trainable_variables)
    if devices.strategy:
        build_from_one_device(model)


def _stage_optimizer(model, options, stage, steps_per_epoch, lr_reductions, several_devices):
    """The optimizer of a stage: its rate warms up and falls along a cosine within the stage."""
    if stage.solved:
        # The steps only measure. A schedule, because a rate alone is one number per device.
        return make_optimizer("sgd", WarmupCosineDecay(0.0, total_steps=1))
    warmup_epochs = 0 if stage.frozen else options.warmup_epochs
    schedule = WarmupCosineDecay(
        peak_learning_rate(options, stage.frozen, lr_reductions),
        total_steps=(stage.last - stage.first) * steps_per_epoch,
        warmup_steps=round(warmup_epochs * steps_per_epoch),
    )
    factors = None
    if options.layer_decay < 1:
        factors = layer_factors(backbone_layers(model), options.layer_decay)
    return make_optimizer(
        options.optimizer,
        schedule,
        weight_decay=options.weight_decay,
        clipnorm=options.clipnorm,
        accumulate=options.accumulate,
        ema=options.ema,
        factors=factors,
        several_devices=several_devices,
    )


def make_loss(setup):
    """The loss of a training; rows of weight 0 leave its mean as well as its sum.

    Args:
        setup: `TrainingSetup`.

    Returns:
        `keras.losses.Loss`, reduced with "mean_with_sample_weight".
    """
    options = setup.options
    if options.loss == "cross_entropy" and options.class_weights == "none":
        return keras.losses.CategoricalCrossentropy(reduction="mean_with_sample_weight")
    weights_per_class = None
    if options.class_weights != "none":
        images_per_class = np.bincount(setup.photos.class_ids, minlength=len(setup.class_names))
        weights_per_class = class_weights(images_per_class, options.class_weights)
    gamma = options.focal_gamma if options.loss == "focal" else 0.0
    return FocalLoss(gamma, weights_per_class)


def jit_compile(choice):
    """What Keras's `compile` takes as jit_compile.

    XLA makes a step six times slower on a processor, and pays on a GPU.

    Args:
        choice: str, the value of --jit: "auto", "on" or "off".

    Returns:
        bool, or "auto".
    """
    if choice != "auto":
        return choice == "on"
    if keras.backend.backend() != "tensorflow":
        return "auto"
    return "auto" if has_gpu() else False
