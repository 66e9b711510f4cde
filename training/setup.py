"""A training made ready: input read and checked, options resolved, nothing written.

Everything that can be wrong with the input is looked at here, before Keras and
TensorFlow are imported, which takes seconds.
"""

import hashlib
import json
import os
import time
from typing import NamedTuple

import numpy as np

from common.console import say
from common.errors import InputError, first_ten
from config import parser
from config.options import KEEPING, PLACE
from data.samples import Samples, check_labels, find_labels, read_label_names, read_samples, split
from modeling import backbones
from runs import run_folder
from runs.checkpoint import Checkpoint, newest
from training import option_checks
from training.learning_rates import default_learning_rate

DEFAULT_TRAINING = "../datasets/train_datasets"
DEFAULT_VALIDATION = "../datasets/val_datasets"


class Job(NamedTuple):
    """A training ready to start.

    Attributes:
        options: the options of `--mode train`, with what depends on others filled in.
        path: the run's folder.
        class_names: tuple of str, in the order of their ids.
        training, validation: `Samples`.
        checkpoint: the `Checkpoint` that a run goes on from, or None.
    """

    options: tuple
    path: str
    class_names: tuple
    training: Samples
    validation: Samples
    checkpoint: Checkpoint | None


def prepare(options):
    """Checks everything about a training that needs no Keras.

    Returns:
        a `Job`; its options have the input size, rates and name filled in.
    """
    start = None
    if options.resume is not None:
        options, path, start = _resumed(options)
    data = options.train_data
    labels_path = options.labels or find_labels(data)
    labels = read_label_names(labels_path)
    if len(labels) < 2:
        raise InputError(f"{labels_path}: has one class; a classifier needs at least 2")
    if options.resume is None:
        options = _resolve(options)
        path = run_folder.check_new(options.save_dir, options.run, options.overwrite)
    option_checks.check_place(options)
    training = read_samples(data, labels, labels_path)
    if options.val_data:
        check_labels(options.val_data, labels, labels_path)
        validation = read_samples(options.val_data, labels, labels_path)
    else:
        training, validation = split(training, options.val_fraction, options.workers)
        if not validation.file_names:
            raise InputError(
                f"{data}: too few images to hold some out for validation: every class has only "
                "one; add images or name a folder with --val_data"
            )
    counts = np.bincount(training.class_ids, minlength=len(labels))
    say(
        f"{len(training.file_names):,} images to train on, "
        f"{len(validation.file_names):,} to validate on, "
        f"{len(labels)} classes named in {labels_path}"
    )
    if not counts.all():
        empty = [labels[number] for number in np.flatnonzero(counts == 0)]
        say(f"note: no training image has the class {first_ten(empty)}")
    job = Job(options, path, labels, training, validation, start)
    if start and start.state["data"] != fingerprint(job):
        raise InputError(
            f"--resume: the images or labels have changed since {path} was started; train a new "
            f"run on them, with --weights {os.path.join(path, run_folder.BEST)} to start from what "
            "it learned"
        )
    return job


def _resumed(options):
    """The options to go on with; the run's path; the `Checkpoint` to go on from, or None."""
    path = run_folder.find(options.resume, options.save_dir, "--resume")
    if run_folder.is_exported(path):
        raise InputError(f"--resume: {path} is an exported model; a run is needed")
    stored = run_folder.read(path, weights=None).options
    run_folder.check_idle(path)
    options = _with_numbers(options)
    free = {"resume", "json", "debug", "config", "save_dir", "force", *PLACE, *KEEPING}
    changed = {
        name: getattr(options, name)
        for name in options.given - free
        if getattr(options, name) != getattr(stored, name)
        and not (name == "epochs" and options.epochs > stored.epochs)
    }
    if changed and (not options.force or "run" in changed):
        raise InputError(
            f"--{(name := min(changed))}: {parser.show(changed[name])} is not what {path} "
            f"was started with, {parser.show(getattr(stored, name))}; a run goes on with "
            "its own options, or with --force"
        )
    for name, value in changed.items():
        say(
            f"note: --force: --{name} {parser.show(value)} instead of "
            f"{parser.show(getattr(stored, name))}"
        )
    kept = {*(options.given & {*KEEPING, "epochs"}), *PLACE, "json", "debug", "resume", "given"}
    found = stored._replace(**changed, **{name: getattr(options, name) for name in kept})
    start = newest(os.path.join(path, run_folder.CHECKPOINT), say)
    if start:
        best = start.state["best_epoch"]
        # The best weights of an epoch that has just ended are made again from its checkpoint.
        needed = best and (best != start.epochs or start.steps)
        if needed and not os.path.exists(os.path.join(path, run_folder.BEST)):
            raise InputError(f"{path}: is not a complete run: {run_folder.BEST} is missing")
    elif os.path.exists(os.path.join(path, run_folder.RESULTS)):
        raise InputError(
            f"--resume: {path} has results but no checkpoint; start it anew with --run "
            f"{os.path.basename(path)} --overwrite"
        )
    else:
        say(f"{path} has no checkpoint yet: it starts anew")
        check_weights(found.weights)
    return found, path, start


def _resolve(options):
    """Fills in what depends on other options, and checks what they mean together."""
    check_weights(options.weights)
    known = backbones.find(options.backbone)
    size = options.input_size or (known.input_size if known else 224)
    options = option_checks.check(options, size)
    trained = options.epochs - options.freeze_epochs
    warmup = options.warmup_epochs
    if warmup is None:
        warmup = min(3.0, trained / 10)
    if warmup > trained:
        frozen = " that --freeze_epochs leaves" if options.freeze_epochs else ""
        raise InputError(
            f"--warmup_epochs: {warmup:g} is more than the {trained} of --epochs{frozen}"
        )
    dropout = options.dropout
    if dropout is None:
        dropout = known.dropout if known else 0.2
    return _with_numbers(options)._replace(
        val_data=_validation_folder(options),
        input_size=size,
        learning_rate=options.learning_rate or default_learning_rate(options),
        warmup_epochs=warmup,
        dropout=dropout,
        run=options.run or _run_name(options.backbone),
    )


def _with_numbers(options):
    """The options with the numbers of the file that --normalize names, which a run keeps."""
    if not isinstance(options.normalize, str):
        return options
    return options._replace(normalize=read_normalization(options.normalize))


def read_normalization(path):
    """The six numbers of a file that --mode mean_std has written.

    Returns:
        tuple: mean and standard deviation, each of red, green and blue, in 0-255.

    Raises:
        InputError: no such file, or not such a one.
    """
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
        numbers = [float(each) for name in ("mean", "standard_deviation") for each in found[name]]
    except FileNotFoundError:
        raise InputError(f"--normalize: {path}: no such file; --mode mean_std makes it") from None
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise InputError(
            f"--normalize: {path}: is not a file of --mode mean_std: {error!r}"
        ) from None
    if len(numbers) != 6 or not np.isfinite(numbers).all():
        raise InputError(f"--normalize: {path}: must hold three means and three deviations")
    if min(numbers[3:]) <= 0:
        raise InputError(
            f"--normalize: {path}: a deviation is {min(numbers[3:]):g}; one has to be above 0, or "
            "the images are all alike in a channel"
        )
    return tuple(numbers)


def _run_name(backbone):
    name = backbone.replace(":", "-").replace("/", "-")
    return f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"


def check_weights(weights):
    """Refuses a weights file that is not there."""
    if weights not in ("imagenet", "none") and not os.path.isfile(weights):
        raise InputError(
            f"--weights: {weights}: no such file; allowed: imagenet, none or a weights file"
        )


def _validation_folder(options):
    """The validation folder, or None where a part of the training data is to be held out."""
    folder = options.val_data
    if folder is None:
        default = os.path.normpath(options.train_data) == os.path.normpath(DEFAULT_TRAINING)
        if not default or not os.path.isdir(DEFAULT_VALIDATION):
            return None
        folder = DEFAULT_VALIDATION
    if (
        os.path.isdir(folder)
        and os.path.isdir(options.train_data)
        and os.path.samefile(folder, options.train_data)
    ):
        raise InputError(
            f"--val_data: {folder} is the training folder; validating on it would measure memory"
        )
    return folder


def fingerprint(job):
    """A hash of classes, samples' names and labels: going on needs the same ones."""
    digest = hashlib.sha256(repr(job.class_names).encode("utf-8", "surrogateescape"))
    for samples in (job.training, job.validation):
        digest.update("\n".join(samples.file_names).encode("utf-8", "surrogateescape"))
        digest.update(samples.class_ids.tobytes())
    return digest.hexdigest()
