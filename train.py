"""Training: `fit(options)`, whose story is `training.trainer.Trainer.run`."""

import json
import os
import time

from common.console import say, waiting
from common.errors import InputError
from compute.backend import import_keras
from compute.device_names import launcher
from compute.devices import Devices
from config.mode_options import TrainOptions
from data.parts import exists
from data.several_places import paths_of
from prediction.teacher import check_photos, open_teacher
from training.background_tracking import track_asked
from training.failures import explain
from training.setup import fetch_weights, prepare
from training.teacher import learn_from
from training.unlabelled import content_hashes, kept_for_test


def main(options: TrainOptions):
    """`--mode train`."""
    report(fit(options), options)


def report(metrics, options):
    """Prints what `fit` returned, where a program wants it.

    Args:
        metrics: dict, or None in a process that does not write.
        options: the options of `--mode train`.
    """
    if options.json and metrics is not None:
        print(json.dumps(metrics))


def one_device(setup):
    """Imports Keras for a training on one device.

    Args:
        setup: `TrainingSetup`.

    Returns:
        `Devices`.
    """
    if setup.options.backend == "jax" and launcher():
        raise InputError(
            f"--resume: {launcher()} started several processes, each of which would resume alone; "
            "give --backend jax as well"
        )
    import_keras(setup.options.backend)
    return Devices()


def find_teacher(setup):
    """Looks up the teacher of a training and what it has learned.

    Args:
        setup: `TrainingSetup`.

    Returns:
        `Teacher`; None where there is none, or where it has gone and the run has its answers.

    Raises:
        InputError: it has other classes, or has learned the photos that validate.
    """
    options = setup.options
    if not options.teacher or (options.resume and not os.path.exists(options.teacher)):
        return None
    teacher = open_teacher(options.teacher, setup.class_names)
    check_photos(
        teacher.path,
        set(content_hashes(setup.validation, options).tolist()) - {0},
        kept_for_test(options),
        has_parts=any(map(exists, paths_of(options.train_data))),
    )
    return teacher


def fit(options: TrainOptions, setup_devices=one_device, feature_cache=None, ends_early=None):
    """Trains a classifier and leaves its run folder.

    Args:
        options: the options of `--mode train`.
        setup_devices: function from `TrainingSetup` to `Devices` that imports Keras; called
            once the input has been read and checked.
        feature_cache: `training.feature_cache.FeatureCache`, where several trainings of the same
            frozen network share what it makes of their photos; or None.
        ends_early: function from the history, a list of one dict per epoch as of
            `runs.results`, to bool: whether the training ends with this epoch; or None.

    Returns:
        dict, the content of the run's metrics.json, and `run`, its path, and with --track
        `tracking`; None in a process that is not the one to write the run folder.

    Raises:
        InputError: bad input, before any training; or too many undecodable images.
        RunError: the loss is NaN; weights cannot be downloaded; the disk or the memory is full,
            or data have gone: what was written before is whole.

    Example:
        >>> from config import parser
        >>> options = parser.parse("train", ["--train_data", "photos", "--epochs", "8"])
        >>> fit(options)["val_accuracy"]
        0.94
    """
    started_at = time.monotonic()
    setup = prepare(options)
    teacher = find_teacher(setup)
    fetch_weights(setup)
    say("starting Keras ...")
    with waiting("starting Keras"):
        devices = setup_devices(setup)

        from training.trainer import Trainer  # needs Keras

    with track_asked(setup.options, setup.run_path, devices.is_chief) as tracking:
        try:
            if setup.options.teacher:
                setup = learn_from(setup, teacher)
            trainer = Trainer(setup, devices, started_at, feature_cache, tracking, ends_early)
            metrics = trainer.run()
        except Exception as error:
            plain_error = explain(error, setup.run_path)
            if plain_error is error:
                raise
            raise plain_error from error
    return metrics if tracking is None else {**metrics, "tracking": tracking.summary()}
