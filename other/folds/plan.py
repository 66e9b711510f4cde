"""Which photos judge which fold, and the files by which the folds' runs are made.

save_h5_model/NAME-crossval/
  crossval.json           what was asked for: a command that asks for it again goes on
  fold-1-training.csv     the photos that NAME-fold-1 learns from, likewise for each fold
  fold-1-judging.csv      the photos that judge it
  features.npz            what a frozen network makes of all photos
  answers.csv             one row per photo: the answer of the model that has not seen it
  doubtful.csv            labels that are probably wrong, for --mode relabel
  index.html              the page
  model/                  the exported mean of the folds' models, with --export mean
"""

import hashlib
import json
import os
import shutil
from typing import NamedTuple

import numpy as np

from common.console import say
from common.errors import InputError, first_ten
from common.files import write_text
from common.tables import write_table
from common.write_errors import write_error
from config.mode_options import TrainOptions
from data import parts
from data.csv_labels import COLUMNS
from data.groups import check_several, name_groups
from data.label_names import write_label_names
from data.labelled_data import read_labelled
from data.photo_files import absolute
from data.samples import Samples
from data.splitting import join_named, read_sample_groups
from evaluation.cross_validation import assign_folds
from other.pipeline import base_name
from runs import run_folder

ASKED, FEATURES = "crossval.json", "features.npz"
ANSWERS, DOUBTFUL, PAGE = "answers.csv", "doubtful.csv", "index.html"
GROUP = "group"  # the third column of the folds' tables
# What this mode does itself, instead of handing it to the folds' trainings
OWN = frozenset(("labels", "seed", "run", "overwrite", "track", "json", "config", "debug"))
# What may change between two starts of a command without another result
NEUTRAL = OWN - {"seed"} | {"export", "lang", "workers", "save_dir", "log_dir", "data_time_limit"}
NEUTRAL |= {"cache_dir", "cache_gigabytes"}


class Fold(NamedTuple):
    """One training, and the photos that judge it.

    Attributes:
        seed: int, number of the seed, from 0.
        number: int, number of the fold, from 0.
        run_name: str.
        tables: (str, str), the files that name the photos to learn from and those that judge.
        positions: int array, those that judge, in the plan's samples.
    """

    seed: int
    number: int
    run_name: str
    tables: tuple
    positions: np.ndarray


class Plan(NamedTuple):
    """A cross-validation before anything is trained.

    Attributes:
        name: str, what the names of the folds' runs begin with.
        folder: str, where everything but the runs goes.
        samples: `Samples`, N photos.
        class_names: tuple of str.
        groups: int (N,), equal for photos that stay together.
        assigned: int (S, N), the fold of each photo, by seed.
        folds: list of `Fold`.
        is_continued: bool, whether an earlier start of the same command has left something.
    """

    name: str
    folder: str
    samples: Samples
    class_names: tuple
    groups: np.ndarray
    assigned: np.ndarray
    folds: list
    is_continued: bool

    @property
    def run_of_all(self):
        """str, the name of the run of all photos, with --export all."""
        return f"{self.name}-all"

    def file(self, name):
        """str, the path of a file of the cross-validation."""
        return os.path.join(self.folder, name)


def make_plan(options):
    """Reads the photos, divides them into folds, and writes the tables of these.

    Args:
        options: `CrossvalOptions`.

    Returns:
        `Plan`.

    Raises:
        InputError: there are too few photos or groups; an earlier cross-validation of this name
            asked for something else; a run has the name of a fold's.
    """
    samples, class_names, _ = read_labelled(options.data, labels_path=options.labels)
    if len(class_names) < 2:
        raise InputError(f"{options.data}: has one class; a classifier needs at least 2")
    _check_names(samples)
    if parts.exists(options.data):
        say(
            f"note: {parts.table_path(options.data)} is not looked at: photos of all its parts are "
            "divided anew, those kept for the test too"
        )
    groups, hashes = _read_groups(options, samples, class_names)
    assigned = np.stack(
        [
            assign_folds(samples.class_ids, groups, options.folds, options.seed + seed, class_names)
            for seed in range(options.seeds)
        ]
    )
    name = base_name(options)
    folder = os.path.join(options.save_dir, f"{name}-crossval")
    plan = Plan(name, folder, samples, class_names, groups, assigned, [], False)
    plan = plan._replace(folds=_list_folds(plan, options))
    asked = _describe(options, plan, hashes)
    plan = plan._replace(is_continued=_is_continued(plan, asked, options))
    try:
        if options.overwrite:
            _remove_runs(plan, options)
        _write(plan, asked)
    except OSError as error:
        raise write_error(error, folder, "--save_dir") from None
    return plan


def training_options(options):
    """What the command says about the folds' trainings.

    Args:
        options: `CrossvalOptions`.

    Returns:
        dict of option name -> value, of those that were given.
    """
    names = (options.given & frozenset(TrainOptions._fields)) - OWN - {"data", "group"}
    return {name: getattr(options, name) for name in names}


def _check_names(samples):
    """Refuses file names that the tables of the folds cannot hold."""
    for name in samples.file_names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise InputError(
                f"{os.fsencode(name)!r}: the name is not UTF-8, as a table has to be; rename it"
            ) from None


def _read_groups(options, samples, class_names):
    """(int (N,) groups, uint64 (N,) hashes of the files): near copies stay together."""
    hashes, groups = read_sample_groups(samples, options.workers)
    if options.group:
        names = name_groups(samples, options.group, options.data, class_names, options.workers)
        check_several(names, options.group)
        groups = join_named(hashes, groups, names)
    return groups, hashes


def _list_folds(plan, options):
    folds = []
    for seed in range(options.seeds):
        for number in range(options.folds):
            label = f"fold-{number + 1}"
            label = f"seed-{seed + 1}-{label}" if options.seeds > 1 else label
            tables = tuple(plan.file(f"{label}-{part}.csv") for part in ("training", "judging"))
            positions = np.flatnonzero(plan.assigned[seed] == number)
            folds.append(Fold(seed, number, f"{plan.name}-{label}", tables, positions))
    return folds


def _describe(options, plan, hashes):
    """dict of what decides the result, as crossval.json holds it."""
    digest = hashlib.sha256(repr(plan.class_names).encode())
    names = "\n".join(plan.samples.file_names)
    arrays = plan.samples.class_ids.astype(np.int64), hashes, plan.assigned
    digest.update(names.encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    given = {name: getattr(options, name) for name in sorted(options.given - NEUTRAL - {"data"})}
    content = {"data": os.path.realpath(options.data), "photos": digest.hexdigest(), **given}
    return json.loads(json.dumps(content, default=str))  # tuples as the file gives them back


def _is_continued(plan, asked, options):
    """Whether this command goes on; refuses to mix it with something else."""
    if options.overwrite:
        return False
    try:
        with open(plan.file(ASKED), encoding="utf-8") as json_file:
            earlier = json.load(json_file)
    except (OSError, ValueError):
        earlier = None
    if earlier == asked:
        return True
    if earlier is not None:
        changed = {name for name in {*earlier, *asked} if earlier.get(name) != asked.get(name)}
        names = ", ".join(
            "the photos or labels" if name == "photos" else f"--{name}" for name in sorted(changed)
        )
        raise InputError(
            f"--run: {plan.folder} is that of a command with other values ({names}); choose "
            "another --run, or --overwrite to replace it"
        )
    taken = [
        name for name in _run_names(plan) if os.path.lexists(os.path.join(options.save_dir, name))
    ]
    if taken:
        raise InputError(
            f"--run: {first_ten(taken)} in {options.save_dir} exist and are of no cross-validation "
            "that could go on; choose another --run, or --overwrite to replace them"
        )
    return False


def _remove_runs(plan, options):
    """Removes the runs of earlier folds, which must not be taken for those of this command."""
    for name in _run_names(plan):
        run_path = run_folder.check_new(options.save_dir, name, overwrite=True)
        if os.path.lexists(run_path):
            shutil.rmtree(run_path)


def _run_names(plan):
    """list of str, the runs that belong to a cross-validation."""
    return [*(fold.run_name for fold in plan.folds), plan.run_of_all]


def _write(plan, asked):
    os.makedirs(plan.folder, exist_ok=True)
    if not plan.is_continued and os.path.exists(plan.file(FEATURES)):
        os.remove(plan.file(FEATURES))  # a photo may have another content by now
    rows = [(*row, group) for row, group in zip(all_photos(plan), plan.groups)]
    for fold in plan.folds:
        judges = set(fold.positions.tolist())
        for table, is_judging in zip(fold.tables, (False, True)):
            chosen = [row for n, row in enumerate(rows) if (n in judges) == is_judging]
            write_table(table, (*COLUMNS, GROUP), chosen)
    write_label_names(plan.folder, plan.class_names)
    write_text(plan.file(ASKED), json.dumps(asked, indent=1) + "\n")


def all_photos(plan):
    """The table of all photos, for a training on all of them.

    Args:
        plan: `Plan`.

    Returns:
        list of (path, class name).
    """
    folder = absolute(plan.samples.folder)
    return [
        (os.path.join(folder, name), plan.class_names[class_id])
        for name, class_id in zip(plan.samples.file_names, plan.samples.class_ids)
    ]
