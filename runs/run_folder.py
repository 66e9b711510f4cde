"""What a run leaves on disk, and reading it back.

    save_h5_model/RUN/
      options.yaml       every option, with what was resolved when training began
      label.json         the class names
      results.csv        one row per epoch, nothing that depends on a clock
      best.weights.h5    highest validation accuracy, then lowest validation loss
      best/              the weights of the --keep best epochs, where that is more than one
      soup/              the weights of the epochs that --soup averages
      last.weights.h5    after the last epoch
      checkpoint/        the last two checkpoints, from which training resumes
      metrics.json       the scores
      tracking.json      which run of MLflow it is, with --track mlflow
      slices.json        where a report has shown it to be worse
      calibration.json   temperature and thresholds, where --mode calibrate has fitted them
      centers.npz        what the features of the training photos are like, class by class
      teacher.npz        what the teacher of --teacher has answered for its photos
      margins/           the images trained on, and how sure the model was of each label
      check/             some validation images with the best weights' probabilities
      model/             the exported model
      .lock              empty; locked while a process trains the run
      .outputs.json      which data eval.csv, report.html and confusion_matrix/ are about

Every file appears whole or not at all. Nothing here needs Keras.
"""

import contextlib
import json
import os
import time
from typing import NamedTuple

import yaml

from common.console import say
from common.errors import InputError, first_ten, nearest
from common.files import flush, replacing_folder, write_text
from common.write_errors import write_error
from config import parser
from config.modes import saved_options
from data.geometry import Preprocessing
from data.label_names import read_label_names, write_label_names
from modeling.architecture import Architecture

OPTIONS, LABELS, RESULTS, METRICS = "options.yaml", "label.json", "results.csv", "metrics.json"
BEST, LAST = "best.weights.h5", "last.weights.h5"
TRACKING = "tracking.json"
CALIBRATION, CENTERS = "calibration.json", "centers.npz"
TEACHER = "teacher.npz"
CHECKPOINT, CHECK, MODEL, MARGINS = "checkpoint", "check", "model", "margins"
KEPT = "best"  # folder of the weights that --keep keeps
SOUP = "soup"  # folder of the weights that --soup averages
CHECK_FILE = "probabilities.json"  # in CHECK: image file -> its probabilities
MODEL_FILE = "model.json"  # what makes a folder an exported model
LAST_RUN = "last"  # in place of a name
LOCK = ".lock"  # a file of its own: on Windows nobody else can read one that is locked
LOCK_SECONDS = 1.0  # in which another process that only looks lets go of the lock


class Run(NamedTuple):
    """A run read back.

    Attributes:
        path: str, its folder.
        options: the options of `--mode train` it was made with, resolved.
        class_names: tuple of str, in the order of their ids.
    """

    path: str
    options: tuple
    class_names: tuple

    def file(self, *names):
        """str, the path of a file of the run, from the parts of its name."""
        return os.path.join(self.path, *names)

    @property
    def preprocessing(self):
        """The `Preprocessing` of the run's images."""
        return preprocessing(self.options)


def preprocessing(options):
    """The `Preprocessing` of a training.

    Args:
        options: the options of `--mode train`, with their input size.
    """
    return Preprocessing(options.input_size, options.resize, options.fill_color)


def architecture(options):
    """The `Architecture` of the model that the options of a training describe.

    Args:
        options: the options of `--mode train`, with an attribute per field of `Architecture`.

    Returns:
        `modeling.architecture.Architecture`.
    """
    return Architecture(*(getattr(options, field) for field in Architecture._fields))


def check_new(save_dir, run_name, overwrite):
    """Refuses a run to make where something is that must not be replaced.

    Args:
        save_dir: str, the folder of all runs.
        run_name: str, the folder to make there.
        overwrite: bool, whether a run of that name may be replaced.

    Returns:
        str, the path of the run to make.

    Raises:
        InputError: the run exists, or is being trained, or something else has its name.
    """
    run_path = os.path.join(save_dir, run_name)
    if os.path.lexists(run_path) and not overwrite:
        raise InputError(
            f"--run: {run_path} exists; choose another name, or --overwrite to replace it, or "
            f"--resume {run_name} to continue it"
        )
    _check_replaceable(run_path)
    check_idle(run_path)
    if os.path.exists(save_dir) and not os.path.isdir(save_dir):
        raise InputError(f"--save_dir: {save_dir} is a file; a folder is needed")
    return run_path


def _check_replaceable(run_path):
    """Refuses what --overwrite must not delete: anything but a run or an empty folder."""
    if not os.path.lexists(run_path):
        return
    is_folder = os.path.isdir(run_path) and not os.path.islink(run_path)
    is_run = is_folder and os.path.exists(os.path.join(run_path, OPTIONS))
    if not is_folder or (os.listdir(run_path) and not is_run):
        raise InputError(f"--overwrite: {run_path} is not a run; it is left alone")


def create(run_path, options, class_names, overwrite):
    """Makes the folder of a new run, with its options and class names.

    Args:
        run_path: str, the folder to make.
        options: the options of `--mode train`, resolved.
        class_names: tuple of str, in the order of their ids.
        overwrite: bool, whether a run that is there is replaced.

    Raises:
        InputError: the folder cannot be written, or must not be replaced.
        RunError: the disk is full.
    """
    if os.path.lexists(run_path):
        if not overwrite:
            raise InputError(f"--run: {run_path} exists")
        _check_replaceable(run_path)
        check_idle(run_path)
    try:
        with replacing_folder(run_path) as partial_folder:
            write_label_names(partial_folder, class_names)
            flush(os.path.join(partial_folder, LABELS))
            write_options(partial_folder, options)
    except OSError as error:
        raise write_error(error, run_path, "--save_dir") from None


def write_options(run_path, options):
    """Writes options.yaml: the options that a run keeps.

    Args:
        run_path: str, the run's folder.
        options: the options of `--mode train`, resolved.
    """
    saved_names = saved_options("train")
    values = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in options._asdict().items()
        if name in saved_names
    }
    yaml_text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    write_text(os.path.join(run_path, OPTIONS), yaml_text)


@contextlib.contextmanager
def locked(run_path):
    """A context in which no other process trains a run.

    The lock ends with its process, however that ends.

    Args:
        run_path: str, the run's folder.

    Raises:
        InputError: another process holds it.
    """
    try:
        lock_file = open(os.path.join(run_path, LOCK), "ab")
    except OSError as error:
        raise InputError(f"{run_path}: cannot be opened: {error.strerror}") from None
    with lock_file:
        _lock(lock_file, run_path)
        yield


def _lock(lock_file, run_path):
    """Locks an open file until it is closed."""
    import filelock  # only who writes a run needs it; serving does not

    give_up_at = time.monotonic() + LOCK_SECONDS
    # A file system without locks raises an OSError.
    with contextlib.suppress(OSError):
        while not filelock.lock_descriptor(lock_file.fileno(), blocking=False):
            if time.monotonic() > give_up_at:
                raise InputError(
                    f"{run_path}: another process trains this run; wait until it ends, or name "
                    "another run"
                )
            time.sleep(0.05)


def check_idle(run_path):
    """Refuses a run that another process trains.

    Args:
        run_path: str, the run's folder, which need not exist.

    Raises:
        InputError: another process trains it.
    """
    # A run without this file, or one that may not be written, is not trained here.
    with contextlib.suppress(OSError), open(os.path.join(run_path, LOCK), "r+b") as lock_file:
        _lock(lock_file, run_path)


def find(name, save_dir, option="--run"):
    """Finds a run or an exported model; a line says which, where the name does not.

    Args:
        name: str, a name below `save_dir`, the beginning of one, a path, or "last" for the newest.
        save_dir: str, the folder of all runs.
        option: str, what errors call the name's origin.

    Returns:
        str, its path, whose last part names the run.

    Raises:
        InputError: there is none, or several begin so.
    """
    for run_path in (name, os.path.join(save_dir, name)):
        if any(os.path.exists(os.path.join(run_path, part)) for part in (OPTIONS, MODEL_FILE)):
            # Its last part names the run in messages and log folders.
            if os.path.basename(run_path) in ("", ".", ".."):
                run_path = os.path.abspath(run_path)
            return os.path.normpath(run_path)
    created_at = _creation_times(save_dir)
    if name == LAST_RUN and created_at:
        # A run in its first epoch has no weights yet; it can only be resumed.
        is_usable = dict.fromkeys(created_at, option == "--resume")
        for run_name in created_at:
            is_usable[run_name] |= os.path.exists(os.path.join(save_dir, run_name, BEST))
        candidates = [max(created_at, key=lambda name: (is_usable[name], created_at[name], name))]
    else:
        candidates = [run_name for run_name in created_at if name and run_name.startswith(name)]
    if len(candidates) == 1:
        say(f"{option} {name} is {candidates[0]}")
        return os.path.normpath(os.path.join(save_dir, candidates[0]))
    if candidates:
        raise InputError(
            f"{option}: {name!r} is the beginning of {len(candidates)} runs in {save_dir}: "
            f"{first_ten(candidates)}; type more of the name"
        )
    hint = "; there are no runs yet"
    if created_at:
        hint = nearest(name, created_at) or f"; runs there: {first_ten(created_at)}"
    raise InputError(
        f"{option}: {name!r} is neither a run or exported model nor the name of a run in "
        f"{save_dir}{hint}"
    )


def _creation_times(save_dir):
    """dict of the name of each run in a folder -> when it was created, in the order of names."""
    if not os.path.isdir(save_dir):
        return {}
    times = {}
    for run_name in sorted(os.listdir(save_dir)):
        with contextlib.suppress(OSError):
            times[run_name] = os.stat(os.path.join(save_dir, run_name, OPTIONS)).st_mtime_ns
    return times


def is_exported(path):
    """bool, whether a folder is an exported model (and not a run).

    Args:
        path: str, the folder.
    """
    return os.path.exists(os.path.join(path, MODEL_FILE))


def read(run_path, weights=BEST):
    """Reads a run back.

    Args:
        run_path: str, its folder.
        weights: str, a weights file that has to be there, or None.

    Returns:
        `Run`.

    Raises:
        InputError: files are missing or do not fit together; names them.

    Example:
        >>> read("save_h5_model/demo").class_names[:3]
        ('0', '1', '2')
    """
    for file_name in (OPTIONS, LABELS, weights):
        if file_name and not os.path.exists(os.path.join(run_path, file_name)):
            hint = ": no epoch of it was completed" if file_name == weights else ""
            raise InputError(f"{run_path}: is not a complete run: {file_name} is missing{hint}")
    options_path = os.path.join(run_path, OPTIONS)
    options = parser.from_mapping("train", parser.read_yaml(options_path), options_path)
    if options.input_size is None:
        raise InputError(f"{options_path}: input_size is missing; it must be a whole number")
    return Run(run_path, options, read_label_names(os.path.join(run_path, LABELS)))


def find_trained(name, save_dir):
    """Finds a run, for what an exported model cannot do, and reads it.

    Args:
        name: str, the value of --run.
        save_dir: str, the folder of all runs.

    Returns:
        `Run`.

    Raises:
        InputError: there is none, or it is an exported model.
    """
    run_path = find(name, save_dir)
    if is_exported(run_path):
        raise InputError(
            f"--run: {run_path} is an exported model, which gives probabilities alone; name its run"
        )
    return read(run_path)


def read_metrics(run_path):
    """Reads metrics.json.

    Args:
        run_path: str, the run's folder.

    Returns:
        dict of name -> score; empty where there are none yet.

    Raises:
        InputError: the file is damaged.
    """
    metrics_path = os.path.join(run_path, METRICS)
    try:
        with open(metrics_path, encoding="utf-8") as json_file:
            metrics = json.load(json_file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{metrics_path}: cannot be read: {error}") from None
    if not isinstance(metrics, dict):
        raise InputError(
            f"{metrics_path}: must hold names with scores, not a {type(metrics).__name__}"
        )
    return metrics


def add_metrics(run_path, scores):
    """Adds scores to metrics.json; those of the same name are replaced.

    Args:
        run_path: str, the run's folder.
        scores: dict of name -> score.
    """
    merged = {**read_metrics(run_path), **scores}
    write_text(os.path.join(run_path, METRICS), json.dumps(merged, indent=1) + "\n")
