"""What a training says when it begins and where it stops."""

import os

from common.console import say
from training import recipes
from training.device_checks import describe_devices
from training.learning_rates import peak_learning_rate


def announce(setup, devices, model, recorder, resumes):
    """Says what is trained, from which start and how.

    Args:
        setup: `TrainingSetup`.
        devices: `Devices`.
        model: the run's Keras model.
        recorder: `RunRecorder`.
        resumes: bool, whether the training continues from a checkpoint.
    """
    options, run_path = setup.options, setup.run_path
    done_epochs, done_steps = recorder.saved or (0, 0)
    if recorder.is_finished(options.epochs):
        say(f"{run_path} has finished its {done_epochs} epochs already")
        return
    image_count = len(setup.photos.file_names)
    say(recipes.describe(options, image_count))
    origin = options.weights
    if resumes:
        step = f", step {done_steps + 1}," if done_steps else ""
        origin = f"epoch {done_epochs + 1}{step} of {run_path}"
    if devices.sharding.devices > 1:
        say(describe_devices(options, devices))
    say(
        f"{options.backbone} ({model.count_params():,} parameters) at "
        f"{options.input_size} x {options.input_size} pixels, start: {origin}; "
        f"{-(-image_count // options.batch_size)} steps of {options.batch_size} per epoch, "
        f"{options.optimizer} at {peak_learning_rate(options):g}; run {run_path}"
    )


def say_stopped(recorder):
    """Says how far a training has come that stops, and how to resume it.

    Args:
        recorder: `RunRecorder`.
    """
    state, run_path = recorder.state, recorder.run_path
    epochs, steps = recorder.saved or (0, 0)
    if not epochs and not steps:
        return
    best = ""
    if state.history:
        best = (
            f"; best so far: epoch {state.best_row['epoch']} with val_accuracy "
            f"{state.best_row['val_accuracy']:.4f}"
        )
    say(
        f"stopped{best}; --resume {os.path.basename(run_path)} continues after epoch {epochs}"
        + (f", step {steps}" if steps else "")
    )
