"""A run that knows one class more, or one less, without training the network again.

The network of the run stays as it is; the head is solved anew on the features of all photos
(`train --head`), which takes seconds. The result is a run like any other, with tables of the
photos that it learned from.
"""

import os
import tempfile
from typing import NamedTuple

import numpy as np

import train
from common import console
from common.console import say
from common.errors import InputError, first_ten, nearest
from common.file_names import is_portable, replace_forbidden
from common.tables import write_table
from config import parser
from config.mode_options import AddClassOptions
from data.class_spelling import normalize
from data.csv_labels import COLUMNS, list_photos
from data.label_names import write_label_names
from data.parts import hash_photos
from data.photo_files import absolute
from data.samples import Samples
from data.several_places import paths_of
from data.splitting import hash_files, split
from prediction.batch import predict_samples
from prediction.classifier import Classifier
from runs import run_folder
from runs.margin_files import read_margins
from training.recipes import SOLVABLE_POOLING, can_solve_head
from training.training_data import read_data

TRAINING, VALIDATION = "training.csv", "validation.csv"  # in the new run
# What the new run takes over from the old one, beside its weights
KEPT = (
    *("backbone", "input_size", "resize", "fill_color", "attention", "block_attention"),
    *("pooling", "bilinear_dim", "norm", "normalize", "horizontal_flip", "sampler"),
    *("class_weights", "max_bad"),
)


class Parts(NamedTuple):
    """The photos of the new run.

    Attributes:
        class_names: tuple of str, in the order of the new ids.
        training, validation: lists of (path, class name).
    """

    class_names: tuple
    training: list
    validation: list


def main(options: AddClassOptions):
    """`--mode add_class`."""
    run = run_folder.find_trained(options.run, options.save_dir)
    _check_name(options, run)
    _check_head(run)
    new_name = _new_run_name(run, options)
    parts = _read_parts(options, run)
    before = _recalls(run.path, parts, run.class_names, options)
    new_path = _train(options, run, new_name, parts)
    after = _recalls(new_path, parts, parts.class_names, options)
    result = {
        "run": new_path,
        "classes": [
            {
                "class": class_name,
                "train_images": sum(name == class_name for _, name in parts.training),
                "val_images": sum(name == class_name for _, name in parts.validation),
                "recall_before": before.get(class_name),
                "recall": after.get(class_name),
            }
            for class_name in parts.class_names
        ],
    }
    console.show(result, _text, options.json)


def _check_name(options, run):
    known = {normalize(class_name): class_name for class_name in run.class_names}
    class_name = known.get(normalize(options.name))
    if options.remove and not class_name:
        hint = nearest(options.name, run.class_names)
        raise InputError(
            f"--name: {options.name!r} is not a class of {run.path}: "
            f"{first_ten(run.class_names)}{hint}"
        )
    if options.remove and len(run.class_names) < 3:
        raise InputError(
            f"--remove: {run.path} has {len(run.class_names)} classes; a classifier needs at least "
            "2 after it"
        )
    if options.remove and options.data:
        raise InputError(f"--data: {options.data} has no effect with --remove; leave it out")
    if not options.remove and class_name:
        raise InputError(
            f"--name: {class_name!r} is a class of {run.path} already; choose another name, or put "
            "the photos with the others of the class and train again"
        )
    if not options.remove and not options.data:
        raise InputError("--data: is missing: the folder with the photos of the new class")


def _check_head(run):
    options = run.options
    if not can_solve_head(options):
        raise InputError(
            f"--run: {run.path} has --attention {options.attention} and --pooling "
            f"{options.pooling}; the head can be solved behind --attention none with --pooling "
            f"{' or '.join(SOLVABLE_POOLING)}"
        )


def _new_run_name(run, options):
    word = "without" if options.remove else "with"
    default_name = replace_forbidden(f"{os.path.basename(run.path)}-{word}-{options.name}")
    new_name = options.new_run or default_name
    if not is_portable(new_name) or new_name.startswith("."):
        raise InputError(f"--new_run: is missing: {new_name!r} cannot be the name of a folder")
    new_path = os.path.join(options.save_dir, new_name)
    if os.path.lexists(new_path) and not options.overwrite:
        raise InputError(
            f"--new_run: {new_path} exists; choose another name, or --overwrite to replace it"
        )
    run_folder.check_new(options.save_dir, new_name, options.overwrite)
    return new_name


def _read_parts(options, run):
    """The run's photos, in the parts that it was trained with, and those of the new class."""
    data, *samples = read_data(run.options._replace(workers=options.workers))
    if set(data.class_names) != set(run.class_names):
        raise InputError(
            f"--run: the photos in {', '.join(paths_of(run.options.train_data))} have other "
            f"classes by now ({first_ten(data.class_names)}) than {run.path} "
            f"({first_ten(run.class_names)})"
        )
    parts = _as_trained(run, *(_named(part, data.class_names) for part in samples))
    _check_table_names(path for part in parts for path, _ in part)
    if options.remove:
        removed = normalize(options.name)
        parts = [[row for row in part if normalize(row[1]) != removed] for part in parts]
        class_names = tuple(name for name in run.class_names if normalize(name) != removed)
        return Parts(class_names, *parts)
    class_name = normalize(options.name)
    photo_paths = [absolute(path) for path in list_photos(options.data, "--data")]
    # By content: a copy under another name is the same photo
    known_paths = [path for part in parts for path, _ in part]
    known_hashes = hash_photos(paths_of(run.options.train_data), known_paths, options.workers)
    photo_hashes = hash_files(photo_paths, options.workers)
    is_doubled = np.isin(photo_hashes, known_hashes[known_hashes != 0])
    doubled = [path for path, is_known in zip(photo_paths, is_doubled) if is_known]
    if doubled:
        raise InputError(
            f"--data: {len(doubled)} photos are of other classes of {run.path} already: "
            f"{first_ten(doubled)}"
        )
    _check_table_names(photo_paths)
    samples = Samples(os.sep, photo_paths, np.zeros(len(photo_paths), np.int32))
    new_parts = split(samples, run.options.val_fraction, options.workers)
    if not new_parts[1].file_names:
        raise InputError(
            f"--data: {options.data}: {len(photo_paths)} photos that show the same are too few: "
            "one is learned from and another validates"
        )
    for part, new_part in zip(parts, new_parts):
        part += _named(new_part, [class_name])
    return Parts((*run.class_names, class_name), *parts)


def _as_trained(run, training, validation):
    """Moves what the run was trained on out of its validation photos: later versions differ."""
    trained_on = read_margins(run.path)[0]
    was_trained_on = [os.path.realpath(path) in trained_on for path, _ in validation]
    moved = [row for row, is_moved in zip(validation, was_trained_on) if is_moved]
    if moved:
        say(f"note: {len(moved)} photos of today's validation part were trained on by {run.path}")
    kept = [row for row, is_moved in zip(validation, was_trained_on) if not is_moved]
    return [training + moved, kept]


def _check_table_names(paths):
    """Refuses file names that the tables of the new run cannot hold."""
    for path in paths:
        try:
            path.encode()
        except UnicodeEncodeError:
            raise InputError(
                f"{os.fsencode(path)!r}: the name is not UTF-8, as a table has to be; rename it"
            ) from None


def _named(samples, class_names):
    """list of (path, class name) of some `Samples`."""
    return [
        (os.path.abspath(os.path.join(samples.folder, file_name)), class_names[class_id])
        for file_name, class_id in zip(samples.file_names, samples.class_ids)
    ]


def _train(options, run, new_name, parts):
    """Trains the new run; gives its path."""
    new_path = os.path.join(options.save_dir, new_name)
    with tempfile.TemporaryDirectory() as folder, console.showing(folder, new_path):
        _write_tables(folder, parts)
        write_label_names(folder, parts.class_names)
        words = ["--train_data", os.path.join(folder, TRAINING)]
        words += ["--val_data", os.path.join(folder, VALIDATION)]
        words += ["--labels", os.path.join(folder, run_folder.LABELS)]
        words += ["--weights", os.path.abspath(run.file(run_folder.BEST)), "--run", new_name]
        words += ["--head", run.options.head or "linear", "--workers", str(options.workers)]
        words += ["--save_dir", options.save_dir, "--log_dir", options.log_dir]
        words += ["--overwrite"] if options.overwrite else []
        asked = parser.parse("train", words)
        kept = {name: getattr(run.options, name) for name in KEPT}
        metrics = train.fit(asked._replace(**kept, given=asked.given | kept.keys()))
    new_path = metrics["run"]
    _write_tables(new_path, parts)
    new_options = run_folder.read(new_path).options
    run_folder.write_options(
        new_path,
        new_options._replace(
            train_data=os.path.join(new_path, TRAINING),
            val_data=os.path.join(new_path, VALIDATION),
            labels=os.path.join(new_path, run_folder.LABELS),
        ),
    )
    return new_path


def _write_tables(folder, parts):
    write_table(os.path.join(folder, TRAINING), COLUMNS, parts.training)
    write_table(os.path.join(folder, VALIDATION), COLUMNS, parts.validation)


def _recalls(run_path, parts, class_names, options):
    """dict of class name -> fraction of its validation photos that a run names right."""
    rows = [(path, name) for path, name in parts.validation if name in class_names]
    class_ids = np.array([class_names.index(name) for _, name in rows], np.int32)
    classifier = Classifier.load(run_path, calibrated=False)
    samples = Samples(os.sep, [path for path, _ in rows], class_ids)
    probabilities, errors, _ = predict_samples(
        classifier, samples, options.batch_size, options.workers
    )
    is_right = probabilities.argmax(axis=1) == class_ids
    is_right[list(errors)] = False
    return {
        class_names[class_id]: float(is_right[class_ids == class_id].mean())
        for class_id in np.unique(class_ids)
    }


def _text(result):
    lines = [f"{result['run']}: {len(result['classes'])} classes", ""]
    lines.append(f"{'learned from':>12}  {'validated by':>12}  {'before':>6}  {'now':>6}  class")
    for row in result["classes"]:
        before, now = (
            "" if row[name] is None else f"{row[name]:.3f}" for name in ("recall_before", "recall")
        )
        lines.append(
            f"{row['train_images']:>12,}  {row['val_images']:>12,}  {before:>6}  {now:>6}  "
            f"{row['class']}"
        )
    lines += ["", "before and now: the fraction of a class's validation photos that is named right"]
    return "\n".join(lines)
