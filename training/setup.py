"""A training made ready: input read and checked, options resolved, nothing written.

Everything that can be wrong with the input is checked here, before Keras and TensorFlow are
imported, which takes seconds.
"""

import hashlib
import os
import time
from dataclasses import dataclass, replace

import numpy as np

from common.console import say
from common.errors import InputError, first_ten
from common.file_names import replace_forbidden
from data import parts
from data.labelled_data import read_labelled
from data.packed_index import PackedNames
from data.samples import Samples
from data.several_places import paths_of, read_each
from modeling import backbones, weight_download
from runs import run_folder
from runs.checkpoint import Checkpoint
from training import option_checks, recipes, resume
from training.learning_rates import default_learning_rate
from training.normalization import with_normalization
from training.stages import count_frozen_epochs
from training.teacher import Lesson
from training.training_data import group_names, hold_out, read_data
from training.unlabelled import read_unlabelled

MOST_UNEVEN = 10  # images of the largest class for one of the smallest
DEFAULT_TRAINING = "../datasets/train_datasets"
DEFAULT_VALIDATION = "../datasets/val_datasets"


@dataclass(frozen=True)
class TrainingSetup:
    """A training ready to start.

    Attributes:
        options: the options of `--mode train`, with the defaults that depend on others.
        run_path: str, the run's folder.
        class_names: tuple of str, in the order of their ids.
        training: `Samples` to train on.
        validation: `Samples` to validate on.
        checkpoint: the `Checkpoint` that a run resumes from, or None.
        unlabelled: `Samples` that a teacher answers for, or None.
        lesson: `teacher.Lesson`, what is learned where a teacher has answered, or None.
    """

    options: tuple
    run_path: str
    class_names: tuple
    training: Samples
    validation: Samples
    checkpoint: Checkpoint | None = None
    unlabelled: Samples | None = None
    lesson: Lesson | None = None

    @property
    def photos(self):
        """`Samples` of an epoch: those to train on, and with a teacher those without labels."""
        return self.lesson.samples if self.lesson else self.training


def prepare(options):
    """Checks everything about a training that needs no Keras.

    Args:
        options: the options of `--mode train`.

    Returns:
        `TrainingSetup`.

    Raises:
        InputError: the options contradict each other, or the data cannot be trained on.
    """
    options, each_data = _from_parts(options)
    checkpoint, asked_options = None, options
    if options.resume is not None:
        point = resume.find_resume_point(options)
        options, run_path, checkpoint = point.options, point.run_path, point.checkpoint
    if options.resume is None:
        if options.teacher:
            teacher_path = run_folder.find(options.teacher, options.save_dir, "--teacher")
            asked_options = options = options._replace(teacher=teacher_path)
        options = resolve(options)  # before the data are read, which may take long
        run_path = run_folder.check_new(options.save_dir, options.run, options.overwrite)
    option_checks.check_place(options)
    _check_teacher(options, run_path)
    (_, class_names, names_from), training, validation = data = read_data(options, each_data)
    unlabelled = read_unlabelled(options, training, validation)
    if options.resume is None:
        photo_count = len(training.file_names) + len(unlabelled.file_names if unlabelled else ())
        options = resolve(asked_options._replace(run=options.run), photo_count)
    setup = TrainingSetup(
        options, run_path, class_names, training, validation, checkpoint, unlabelled
    )
    if checkpoint and not options.val_data:
        setup = _as_it_began(setup, data[0])
    _describe_data(setup.training, setup.validation, class_names, names_from)
    if checkpoint and checkpoint.state.data != fingerprint(setup):
        raise InputError(
            f"--resume: the images or labels have changed since {run_path} was started; train a "
            f"new run on them, with --weights {os.path.join(run_path, run_folder.BEST)} to start "
            "from what it learned"
        )
    return setup


def _from_parts(options):
    """--data as --train_data, whose parts are made where there are none.

    Returns:
        (options, list of the `LabelledData` that was read for that, or None).
    """
    if options.data is None:
        return options, None
    for name in ("train_data", "val_data"):
        if name in options.given:
            raise InputError(f"--data, --{name}: one of the two is allowed, not both")
    given = options.given - {"data"} | {"train_data"}
    options = options._replace(train_data=options.data, given=given)
    each_data = None
    if options.resume is None and not parts.exists(options.data):
        data = read_labelled(options.data, labels_path=options.labels, rule=options.group)
        assignment = parts.update(
            options.data,
            data.samples,
            workers=options.workers,
            rule=options.group,
            class_names=data.class_names,
        )
        parts.describe_gaps(assignment, data.samples.class_ids, data.class_names)
        each_data = [data]
    return options._replace(data=None), each_data


def _as_it_began(setup, data):
    """The setup with the parts that its run began with.

    A run may be older than the data's table of parts; and earlier versions let near copies stand
    on both sides.
    """
    options = setup.options
    names = None
    if options.group and setup.checkpoint.state.data != fingerprint(setup):
        paths = paths_of(options.train_data)
        each_data = read_each(paths, labels_path=options.labels, rule=options.group)
        names = group_names(each_data, options)
    for near in (True, False):
        if setup.checkpoint.state.data == fingerprint(setup):
            break
        training, validation = hold_out(data, options, near, names)
        setup = replace(setup, training=training, validation=validation)
    return setup


def fetch_weights(setup):
    """Downloads the weights that a training starts from, unless they are there.

    Of several processes that train together each does so in its turn, when they have joined.

    Args:
        setup: `TrainingSetup`.

    Raises:
        RunError: they cannot be had; says what to do.
    """
    options = setup.options
    is_needed = weight_download.is_needed(options.weights, options.backbone)
    if is_needed and not setup.checkpoint and not option_checks.has_several_processes(options):
        weight_download.fetch(options.backbone, options.weights_url)


def _describe_data(training, validation, class_names, labels_path):
    say(
        f"{len(training.file_names):,} images to train on, {len(validation.file_names):,} to "
        f"validate on, {len(class_names)} classes named in {labels_path}"
    )
    for part, samples in (("training", training), ("validation", validation)):
        images_per_class = np.bincount(samples.class_ids, minlength=len(class_names))
        if not images_per_class.all():
            empty = [class_names[class_id] for class_id in np.flatnonzero(images_per_class == 0)]
            say(f"note: no {part} image has the class {first_ten(empty)}")
    _say_odd_classes(training, class_names)


def _say_odd_classes(training, class_names):
    """One line for each thing about the classes that a person may not have meant."""
    nested = [name for name in class_names if os.path.dirname(name) in class_names]
    if nested:
        say(
            f"note: folders within the folder of a class are classes of their own: "
            f"{first_ten(nested)}; move their photos up if they are not"
        )
    counts = np.bincount(training.class_ids, minlength=len(class_names))
    single = [class_names[class_id] for class_id in np.flatnonzero(counts == 1)]
    if single:
        say(f"note: one training image has the class {first_ten(single)}: add photos")
    smallest, largest = counts[counts > 0].min(), counts.max()
    if largest > MOST_UNEVEN * smallest:
        small_name = class_names[np.flatnonzero(counts == smallest)[0]]
        say(
            f"note: {class_names[counts.argmax()]} has {largest:,} training images, {small_name} "
            f"{smallest:,}: --sampler balanced shows small classes as often as large ones"
        )


def _default_input_size(options):
    known = backbones.find(options.backbone)
    return known.input_size if known else 224


def _default_dropout(options):
    known = backbones.find(options.backbone)
    return known.dropout if known else 0.2


def _default_warmup(options):
    return min(3.0, (options.epochs - count_frozen_epochs(options)) / 10)


def _default_validation_folder(options):
    """The project's validation folder beside the project's training folder, else None."""
    paths = paths_of(options.train_data)
    if any(map(parts.exists, paths)):
        return None
    default_training = [*map(os.path.normpath, paths)] == [os.path.normpath(DEFAULT_TRAINING)]
    return DEFAULT_VALIDATION if default_training and os.path.isdir(DEFAULT_VALIDATION) else None


def _default_run_name(options):
    # a preset can be an address or a folder: what no system forbids, and not too long for one
    backbone_name = replace_forbidden(options.backbone)[:60]
    return f"{backbone_name}-{time.strftime('%Y%m%d-%H%M%S')}"


# What an option is where nobody gave it: a function of the others. A run keeps the results.
DEPENDENT_DEFAULTS = {
    "input_size": _default_input_size,
    "dropout": _default_dropout,
    "warmup_epochs": _default_warmup,
    "val_data": _default_validation_folder,
    "run": _default_run_name,
}


def resolve(options, photo_count=None):
    """Fills in the defaults that depend on other options, and checks all options together.

    Args:
        options: the options of `--mode train`.
        photo_count: int, photos to train on; None where they have not been counted yet.

    Returns:
        The options, with a value for every name of the recipe and in `DEPENDENT_DEFAULTS`, and a
        learning rate.

    Raises:
        InputError: options contradict each other, or a file that one names is missing.
    """
    if photo_count is None:  # later they have been checked, and a checksum takes a whole file
        resume.check_weights(options.weights, options.backbone)
    options = recipes.apply(options, recipes.choose(options, photo_count))
    for name, default in DEPENDENT_DEFAULTS.items():
        if getattr(options, name) is None:
            options = options._replace(**{name: default(options)})
    if options.learning_rate is None:
        options = options._replace(learning_rate=default_learning_rate(options, photo_count))
    options = option_checks.check(options, options.input_size)
    _check_warmup(options)
    _check_validation_folder(options)
    return with_normalization(options)


def with_epochs(options, epochs, photo_count):
    """The options with another number of epochs, and the warm-up and rate that go with it.

    Args:
        options: resolved options of `--mode train`.
        epochs: int, 1 or more.
        photo_count: int, photos to train on.
    """
    options = options._replace(epochs=epochs)
    if "warmup_epochs" not in options.given:
        options = options._replace(warmup_epochs=_default_warmup(options))
    if "learning_rate" not in options.given:
        options = options._replace(learning_rate=default_learning_rate(options, photo_count))
    return options


def _check_warmup(options):
    trained_epochs = options.epochs - count_frozen_epochs(options)
    if options.warmup_epochs > trained_epochs:
        frozen = " that the frozen backbone leaves" if trained_epochs < options.epochs else ""
        raise InputError(
            f"--warmup_epochs: {options.warmup_epochs:g} is more than the {trained_epochs} of "
            f"--epochs{frozen}"
        )


def _check_teacher(options, run_path):
    place = os.path.join(os.path.realpath(run_path), "")
    if options.teacher and os.path.join(os.path.realpath(options.teacher), "").startswith(place):
        raise InputError(
            f"--teacher: {options.teacher} is the run that is to be trained; name another as --run"
        )


def _check_validation_folder(options):
    if options.val_data is None or not os.path.exists(options.val_data):
        return
    training_paths = filter(os.path.exists, paths_of(options.train_data))
    if any(os.path.samefile(options.val_data, path) for path in training_paths):
        raise InputError(
            f"--val_data: {options.val_data} is the training data; validating on it would "
            "measure memory"
        )


def fingerprint(setup):
    """str, a hash of classes, file names and labels: resuming needs the same ones.

    Args:
        setup: `TrainingSetup`.
    """
    digest = hashlib.sha256(repr(setup.class_names).encode("utf-8", "surrogateescape"))
    for samples in filter(None, (setup.training, setup.validation, setup.unlabelled)):
        if isinstance(samples.file_names, PackedNames):
            digest.update(samples.file_names.digest().encode())
        else:
            digest.update("\n".join(samples.file_names).encode("utf-8", "surrogateescape"))
        digest.update(samples.class_ids.tobytes())
    return digest.hexdigest()
