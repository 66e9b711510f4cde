"""What a study works on: the photos of three parts, the space, and the folder of everything.

save_h5_model/NAME-tune/
  study.log               the study: trials, values, scores; not with --storage
  tune.json               which folder this is, for studies of several machines
  trials/trial-0007/      the run of a trial; those that were ended early have no weights
  verdict/                the runs by which the best settings are compared with the starting point
  features.npz            what a frozen network makes of all photos
  locks/                  which process works at which trial
  best.yaml               the best settings, for train --config
  trials.csv              one row per trial
  result.json             what --json prints
  index.html              the page
"""

import hashlib
import json
import os
import shutil
import uuid
from typing import Any, NamedTuple

import numpy as np

from common.errors import InputError
from common.files import write_text
from common.write_errors import write_error
from config import parser
from config.mode_options import TrainOptions
from data import parts
from data.labelled_data import read_labelled
from data.parts_table import PARTS, read_rows, table_path
from data.samples import Samples
from other.folds.plan import NEUTRAL, training_options
from other.pipeline import base_name
from other.tuning.space import Space, make_space

MARK, JOURNAL, LOCKS = "tune.json", "study.log", "locks"
TRIALS, VERDICT, FEATURES = "trials", "verdict", "features.npz"
BEST, TABLE, RESULT, PAGE = "best.yaml", "trials.csv", "result.json", "index.html"
# What belongs to the study and not to its trainings
OF_THE_STUDY = {"minutes", "save_dir", "log_dir"}
# What may change between two starts of a command without another result
_FREE = NEUTRAL | {
    *("data", "group", "search", "minutes", "trials", "seeds", "storage", "checkpoint_minutes")
}
_NAMES = {"photos": "the photos, labels or parts", "space": "--search", "start": "the defaults"}


class Plan(NamedTuple):
    """A study before its first trial.

    Attributes:
        name: str.
        folder: str, where everything goes.
        folder_id: str, by which the study knows whose trial is whose.
        data: str, the photos.
        class_names: tuple of str.
        counts: tuple of 3 int, photos of the parts train, val and test.
        test: `Samples` of the verdict, N photos that no trial sees.
        groups: int (N,), equal for photos that stay together.
        asked: `TrainOptions` of every training, without its name, its seed and what is searched.
        space: `Space`.
        identity: dict, what tells this study from others.
    """

    name: str
    folder: str
    folder_id: str
    data: str
    class_names: tuple
    counts: tuple
    test: Samples
    groups: np.ndarray
    asked: Any
    space: Space
    identity: dict

    def file(self, *names):
        """str, the path of a file of the study."""
        return os.path.join(self.folder, *names)

    def given(self):
        """dict of option name -> value, what the command says about every training."""
        names = self.asked.given & frozenset(TrainOptions._fields)
        return {name: getattr(self.asked, name) for name in sorted(names - {"data", *_OF_A_RUN})}


_OF_A_RUN = ("run", "seed", "save_dir", "log_dir", "workers")


def make_plan(options):
    """Reads the photos, gives them parts, and makes the study's folder.

    Args:
        options: `TuneOptions`.

    Returns:
        `Plan`.

    Raises:
        InputError: too few photos; options that contradict each other; the folder is something
            else.
    """
    asked = shared_options(options)
    make_space(options.search, asked, None)  # refused before the photos are read
    samples, class_names, names_from = read_labelled(
        options.data, labels_path=options.labels, rule=options.group
    )
    if len(class_names) < 2:
        raise InputError(f"{names_from}: has one class; a classifier needs at least 2")
    assignment = parts.update(
        options.data, samples, workers=options.workers, rule=options.group, class_names=class_names
    )
    counts = tuple(np.bincount(assignment.parts, minlength=len(PARTS)).tolist())
    _check_counts(counts, assignment, options.data)
    space = make_space(options.search, asked, counts[0])
    name = base_name(options)
    folder = os.path.join(options.save_dir, f"{name}-tune")
    is_test = assignment.parts == PARTS.index("test")
    return Plan(
        name,
        folder,
        _open_folder(folder, options),
        options.data,
        class_names,
        counts,
        samples.select(np.flatnonzero(is_test)),
        _groups(options.data, assignment)[is_test],
        asked,
        space,
        _identity(options, samples, class_names, assignment, space),
    )


def shared_options(options):
    """What the command says about all trainings of a study.

    Args:
        options: `TuneOptions`.

    Returns:
        `TrainOptions`, with `data`, and without the name, the seed and the place of a run.
    """
    words = ["--data", options.data, "--workers", str(options.workers)]
    words += ["--labels", options.labels] if options.labels else []
    asked, shared = parser.parse("train", words), training_options(options)
    shared = {name: value for name, value in shared.items() if name not in OF_THE_STUDY}
    return asked._replace(**shared, given=asked.given | shared.keys())


def _check_counts(counts, assignment, data):
    empty = [part for part, count in zip(PARTS, counts) if not count]
    if not empty:
        return
    division = ", ".join(f"{part} {count}" for part, count in zip(PARTS, counts))
    if "test" not in empty or assignment.added < sum(counts):
        advice = f"--mode split --data {data} divides them anew once {assignment.path} is deleted"
    else:
        advice = "add photos, about ten of each class"
    raise InputError(
        f"--data: {data}: {sum(counts)} photos make three parts for a search, of which none may be "
        f"empty: {division}; {advice}"
    )


def _groups(data, assignment):
    """int (N,), equal for photos that splits.csv keeps together."""
    leaders = {row.content: row.group for row in read_rows(table_path(data))}
    names = [leaders.get(content, content) for content in assignment.contents]
    return np.unique(names, return_inverse=True)[1]


def _open_folder(folder, options):
    """The id of the study's folder, which is made where it is not there."""
    mark = os.path.join(folder, MARK)
    is_study = os.path.exists(mark)
    if not is_study and os.path.lexists(folder):
        names = os.listdir(folder) if os.path.isdir(folder) else ["a file"]
        if names and LOCKS not in names:
            raise _no_study(folder)
    try:
        if is_study and options.overwrite:
            shutil.rmtree(folder)
            shutil.rmtree(log_folder(folder, options), ignore_errors=True)
        os.makedirs(os.path.join(folder, LOCKS), exist_ok=True)
        with lock(os.path.join(folder, LOCKS, "folder")):
            # Looked at here, because another process may have begun the study a moment ago
            if not os.path.exists(mark):
                if set(os.listdir(folder)) - {LOCKS}:
                    raise _no_study(folder)
                write_text(mark, json.dumps({"id": uuid.uuid4().hex}) + "\n")
            with open(mark, encoding="utf-8") as json_file:
                return json.load(json_file)["id"]
    except OSError as error:
        raise write_error(error, folder, "--save_dir") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{mark}: is damaged; --overwrite begins a new study") from None


def _no_study(folder):
    return InputError(f"--run: {folder} is no study; it is left alone: choose another --run")


def log_folder(folder, options):
    """str, where the TensorBoard logs of a study go.

    Args:
        folder: str, the study's folder.
        options: `TuneOptions`.
    """
    return os.path.join(options.log_dir, os.path.basename(folder))


def lock(path, waits=True):
    """A lock that ends with its process, however that ends.

    Args:
        path: str, a file that is made where it is not there.
        waits: bool, whether a lock that another process holds is waited for.

    Returns:
        `filelock.FileLock`, a context; not acquired yet.
    """
    from filelock import FileLock

    return FileLock(path, timeout=-1 if waits else 0)


def _identity(options, samples, class_names, assignment, space):
    """dict of what decides the result of a study, on whatever machine."""
    digest = hashlib.sha256(repr(class_names).encode("utf-8", "surrogateescape"))
    names = "\n".join(name.replace(os.sep, "/") for name in samples.file_names)
    digest.update(names.encode("utf-8", "surrogateescape"))
    digest.update("".join(assignment.contents).encode())
    for numbers in (samples.class_ids, assignment.parts):
        digest.update(np.ascontiguousarray(numbers, np.int64).tobytes())
    given = {name: getattr(options, name) for name in sorted(options.given - _FREE)}
    content = {"photos": digest.hexdigest(), "space": space.as_json(), "start": space.start}
    return json.loads(json.dumps({**content, **given}, default=str))  # as a storage gives it back


def check_same(earlier, plan, place):
    """Refuses a study that asked for something else.

    Args:
        earlier: dict, the identity of the study that is there.
        plan: `Plan`.
        place: str, what errors call the place of the study.

    Raises:
        InputError: names what differs.
    """
    asked = plan.identity
    changed = [name for name in {**earlier, **asked} if earlier.get(name) != asked.get(name)]
    if "start" in changed and len(changed) > 1:
        changed.remove("start")  # follows from the others
    if changed:
        names = ", ".join(_NAMES.get(name, f"--{name}") for name in changed)
        raise InputError(
            f"--run: the study {plan.name} in {place} is that of a command with other values "
            f"({names}); choose another --run, or --overwrite to replace it"
        )
