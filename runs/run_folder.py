"""What a run leaves on disk, and reading it back.

    save_h5_model/RUN/
      options.yaml       every option, with what was resolved when training began
      label.json         the class names
      results.csv        a row an epoch, nothing that a clock decides
      best.weights.h5    highest validation accuracy, then lowest validation loss
      best/              the weights of the --keep best epochs, where it is more than one
      last.weights.h5    after the last epoch
      checkpoint/        the last two checkpoints, from which training goes on
      metrics.json       the scores
      calibration.json   temperature and thresholds, where --mode calibrate has fitted them
      margins/           the images trained on, and how sure the model was of each label
      check/             some validation images with the best weights' probabilities
      model/             the exported model

Every file appears whole or not at all. Nothing here needs Keras.
"""

import contextlib
import fcntl
import json
import os
import shutil
from typing import NamedTuple

import yaml

from common.errors import InputError
from common.files import flush, replace_folder, write_text
from config import parser
from config.options import PLACE
from data.geometry import Preprocessing
from data.samples import read_label_names, write_label_names

OPTIONS, LABELS, RESULTS, METRICS = "options.yaml", "label.json", "results.csv", "metrics.json"
BEST, LAST = "best.weights.h5", "last.weights.h5"
CALIBRATION = "calibration.json"
CHECKPOINT, CHECK, MODEL, MARGINS = "checkpoint", "check", "model", "margins"
KEPT = "best"  # folder of the weights that --keep keeps
CHECK_FILE = "probabilities.json"  # in CHECK: image file -> its probabilities
MODEL_FILE = "model.json"  # what makes a folder an exported model


class Run(NamedTuple):
    """A run read back.

    Attributes:
        path: its folder.
        options: the options of `--mode train` it was made with, resolved.
        class_names: tuple of str, in the order of their ids.
    """

    path: str
    options: tuple
    class_names: tuple

    def file(self, *names):
        """Path of a file of the run."""
        return os.path.join(self.path, *names)

    @property
    def preprocessing(self):
        """The `Preprocessing` of the run's images."""
        return preprocessing(self.options)


def preprocessing(options):
    """The `Preprocessing` that the options of a training mean."""
    return Preprocessing(options.input_size, options.resize, options.fill_color)


def architecture(options):
    """The arguments of `builder.build_model` that the options of a training mean."""
    names = (
        "backbone",
        "input_size",
        "dropout",
        "drop_connect",
        "attention",
        "block_attention",
        "pooling",
        "bilinear_dim",
        "norm",
        "normalize",
    )
    return {name: getattr(options, name) for name in names}


def check_new(save_dir, name, overwrite):
    """The path of a run to make; refused where one stands and `overwrite` is off."""
    path = os.path.join(save_dir, name)
    if os.path.lexists(path) and not overwrite:
        raise InputError(
            f"--run: {path} exists; choose another name, or --overwrite to replace it, or "
            f"--resume {name} to go on with it"
        )
    _check_replaceable(path)
    check_idle(path)
    if os.path.exists(save_dir) and not os.path.isdir(save_dir):
        raise InputError(f"--save_dir: {save_dir} is a file; a folder is needed")
    return path


def _check_replaceable(path):
    """Refuses what --overwrite must not delete: anything but a run or an empty folder."""
    if not os.path.lexists(path):
        return
    folder = os.path.isdir(path) and not os.path.islink(path)
    if not folder or (os.listdir(path) and not os.path.exists(os.path.join(path, OPTIONS))):
        raise InputError(f"--overwrite: {path} is not a run; it is left alone")


def create(path, options, labels, overwrite):
    """Makes the folder of a new run; an old run there is replaced if `overwrite`."""
    if os.path.lexists(path):
        if not overwrite:
            raise InputError(f"--run: {path} exists")
        _check_replaceable(path)
        check_idle(path)
    partial = os.path.join(
        os.path.dirname(os.path.abspath(path)),
        f".partial-{os.path.basename(path)[-60:]}-{os.getpid()}",
    )
    try:
        os.makedirs(partial)
    except OSError as error:
        raise InputError(f"--save_dir: {path} cannot be made: {error.strerror}") from None
    try:
        write_label_names(partial, labels)
        flush(os.path.join(partial, LABELS))
        write_options(partial, options)
        if os.path.lexists(path):
            replace_folder(partial, path)
        else:
            os.rename(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_options(path, options):
    """Writes the options that a run in the folder `path` is trained with."""
    values = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in options._asdict().items()
        if key not in ("given", "config", "debug", "json", "overwrite", "resume", "force", *PLACE)
    }
    write_text(
        os.path.join(path, OPTIONS), yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    )


@contextlib.contextmanager
def locked(path, kind=fcntl.LOCK_EX):
    """A context in which no other process trains the run in the folder `path`.

    The lock is of label.json, which nothing replaces; it ends with its process, however
    that ends.

    Raises:
        InputError: another process has it.
    """
    try:
        file = open(os.path.join(path, LABELS), "r+b" if kind == fcntl.LOCK_EX else "rb")
    except OSError as error:
        raise InputError(f"{path}: cannot be opened: {error.strerror}") from None
    with file:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{path}: another process trains this run; wait for its end, or name another run"
            ) from None
        except OSError:  # a file system without locks
            pass
        yield


def check_idle(path):
    """Refuses a run that another process trains."""
    if os.path.exists(os.path.join(path, LABELS)):
        with locked(path, fcntl.LOCK_SH):  # several may look at the same time
            pass


def find(name, save_dir, option="--run"):
    """Path of a run or of an exported model, from a name below `save_dir` or a path.

    Raises:
        InputError: there is none; `option` is what errors call the name's origin.
    """
    for path in (name, os.path.join(save_dir, name)):
        if any(os.path.exists(os.path.join(path, file)) for file in (OPTIONS, MODEL_FILE)):
            # Its last part names the run in messages and log folders.
            return os.path.normpath(
                path if os.path.basename(path) not in ("", ".", "..") else os.path.abspath(path)
            )
    runs = []
    if os.path.isdir(save_dir):
        runs = [
            entry
            for entry in sorted(os.listdir(save_dir))
            if os.path.exists(os.path.join(save_dir, entry, OPTIONS))
        ]
    there = f"; runs there: {', '.join(runs[:10])}" if runs else "; there are no runs yet"
    raise InputError(
        f"{option}: {name!r} is neither a run or exported model nor the name of a run in {save_dir}"
        + (parser.nearest(name, runs) or there)
    )


def is_exported(path):
    """Whether the folder `path` is an exported model (and not a run)."""
    return os.path.exists(os.path.join(path, MODEL_FILE))


def read(path, weights=BEST):
    """Reads a run back.

    Args:
        path: its folder.
        weights: a file that has to be there, or None.

    Raises:
        InputError: files are missing or do not fit together; names them.
    """
    for name in (OPTIONS, LABELS, weights):
        if name and not os.path.exists(os.path.join(path, name)):
            hint = ": no epoch of it was completed" if name == weights else ""
            raise InputError(f"{path}: is not a complete run: {name} is missing{hint}")
    file = os.path.join(path, OPTIONS)
    options = parser.from_mapping("train", parser.read_yaml(file), file)
    if options.input_size is None:
        raise InputError(f"{file}: input_size is missing; a run's is a whole number")
    return Run(path, options, read_label_names(os.path.join(path, LABELS)))


def read_metrics(path):
    """The run's scores; an empty dict where there are none yet."""
    file = os.path.join(path, METRICS)
    try:
        with open(file, encoding="utf-8") as text:
            metrics = json.load(text)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: cannot be read: {error}") from None
    if not isinstance(metrics, dict):
        raise InputError(f"{file}: must hold names with scores, not a {type(metrics).__name__}")
    return metrics


def add_metrics(path, scores):
    """Adds scores to the run's metrics.json; those of the same name are replaced."""
    merged = {**read_metrics(path), **scores}
    write_text(os.path.join(path, METRICS), json.dumps(merged, indent=1) + "\n")
