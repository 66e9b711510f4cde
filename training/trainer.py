"""The stages of a training: the batches, the compiled model and `fit`, from a checkpoint or not."""

import contextlib
import os
from typing import NamedTuple

from common.console import say
from common.errors import RunError
from compute.devices import SINGLE_DEVICE
from runs import run_folder
from training.batches import make_batches
from training.compilation import compile_model

HALVINGS = 3  # of the learning rate, until --nan_policy restore gives up


class Stage(NamedTuple):
    """Epochs that train the same weights: from `first`, counted from 0, to before `last`."""

    first: int
    last: int
    frozen: bool


def stages(options):
    """The stages of a training: the frozen backbone's, if wanted, and that of all weights."""
    freeze, epochs = options.freeze_epochs, options.epochs
    found = (Stage(0, freeze, True), Stage(freeze, epochs, False))
    return [stage for stage in found if stage.first < stage.last]


def train_stages(job, devices, model, training, validation, writer, *rest):
    """Trains all stages, or what a checkpoint leaves of them.

    Args:
        job: the `setup.Job`.
        devices: `devices.Devices`.
        model: the run's model, not compiled.
        training, validation: `ImageBatches`.
        writer: the `callbacks.RunWriter`.
        rest: callbacks, the writer among them; the model's `label_margins.Margins`, none or one.

    Raises:
        DivergedError: loss or weights are no longer numbers.
    """
    options, start = job.options, job.checkpoint
    if writer.finished(options.epochs) and writer.published():
        return
    for stage in stages(options):
        if start and not _holds(stage, start):
            continue
        _train_stage(job, devices, stage, start, model, training, validation, writer, *rest)
        start = None
        if writer.finished(options.epochs):
            return


def _holds(stage, start):
    """Whether a stage is the one that a checkpoint was written in."""
    if start.steps or not start.epochs:
        return stage.first <= start.epochs < stage.last
    return stage.first < start.epochs <= stage.last


def back(job, writer, error):
    """The job from its last checkpoint on, at half the rate; refused where that has been enough."""
    from runs.checkpoint import newest

    if job.options.nan_policy == "stop":
        raise error
    if writer.halvings == HALVINGS:
        raise RunError(f"{error} (with the learning rate halved {HALVINGS} times)") from None
    start = newest(os.path.join(job.path, run_folder.CHECKPOINT), say)
    halvings = writer.halvings + 1
    writer.go_on(start)
    writer.halvings = halvings
    say(
        f"{error}; --nan_policy restore: back to epoch {start.epochs}, step {start.steps}, with "
        f"the learning rate halved ({halvings} of {HALVINGS})"
    )
    return job._replace(checkpoint=start)


def _train_stage(
    job, devices, stage, start, model, training, validation, writer, watchers, margins
):
    import keras

    from runs import checkpoint
    from training import callbacks, fine_tuning, preemption

    options = job.options
    with fine_tuning.frozen(model) if stage.frozen else contextlib.nullcontext():
        part = model
        if stage.frozen and options.cache_features:
            body, part = fine_tuning.split(model, devices)
        with devices.scope():
            compile_model(part, job, stage, len(training), devices, margins, writer.halvings)
        for each in margins:
            each.reset_state()  # Keras resets what a compiled model has used already, only
        metrics = {}
        if start:
            metrics = checkpoint.load(start.path, model, part.optimizer)
            training.passed = start.epochs, start.steps
            if start.epochs and not start.steps:
                writer.publish(part)
            if start.epochs == stage.last or writer.finished(options.epochs):
                # What Keras does when a training ends.
                part.optimizer.finalize_variable_values(part.trainable_variables)
                return
            for each in margins:  # several devices have kept none
                rows = min(start.steps * options.batch_size, len(job.training.file_names))
                metrics = {**each.unknown(rows), **metrics}
            if start.steps and keras.backend.backend() == "tensorflow" and not devices.strategy:
                preemption.build_metrics(part, len(job.class_names))  # elsewhere `fit` does
        elif not stage.first:
            writer.save(part)  # what a loss that is no number goes back to
        if part is not model:
            training, validation = _cache_features(job, body, training, validation)
        averaging = [keras.callbacks.SwapEMAWeights()] if callbacks.uses_average(part) else []
        charts = (
            [
                keras.callbacks.TensorBoard(
                    os.path.join(options.log_dir, os.path.basename(job.path)), write_graph=False
                )
            ]
            if devices.is_chief
            else []
        )
        with preemption.Interruptions() as interruptions:
            pauses = preemption.Pauses(
                writer, interruptions, options.checkpoint_minutes, start, metrics
            )
            part.fit(
                training.dataset(),
                validation_data=validation.dataset(),
                initial_epoch=start.epochs if start else stage.first,
                epochs=stage.last,
                shuffle=False,  # the batches have an order of their own
                verbose=0,
                callbacks=[*watchers, pauses, *averaging, *charts],
            )


def _cache_features(job, body, *orders):
    """The `FeatureBatches` of training and validation, in the order of theirs."""
    from training.fine_tuning import FeatureBatches

    images = make_batches(job, SINGLE_DEVICE, augmented=False)
    try:
        return [FeatureBatches(body, *pair, job.path) for pair in zip(images, orders)]
    finally:
        for batches in images:
            batches.close()
