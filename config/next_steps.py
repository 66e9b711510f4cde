"""The command that usually comes next, for the line at the end of a mode."""

import os

from config.parser import show

NOT_REPEATED = {"overwrite", "json", "config", "debug"}


def next_step(mode, options, result=None):
    """What a person usually types after a mode has done its work.

    Args:
        mode: str, a key of `MODES`.
        options: the options that it was run with.
        result: dict, what the mode has returned, or None.

    Returns:
        list of str, the words after `run.py`; empty where nothing follows by itself.

    Example:
        >>> next_step("eval", parse("eval", ["--data", "photos"]))
        ['report', '--data', 'photos']
    """
    steps = {
        "add": lambda options: _after_split(options) if result and result["added"] else [],
        "split": _after_split,
        "train": _after_training,
        "eval": _after_eval,
        "report": lambda options: _export(options, result),
        "crossval": lambda options: _after_crossval(options, result),
        "tune": lambda options: _after_tuning(options, result),
        "calibrate": lambda options: [] if options.dry_run else _export(options, result),
        "export": lambda options: ["serve", *_model(options)],
        "save_pb": lambda options: ["serve", *_model(options)],
    }
    return steps[mode](options) if mode in steps else []


def _after_split(options):
    return [] if options.dry_run else ["train", "--data", options.data]


def _after_training(options):
    data = options.data or options.val_data
    # It is the last run now, whatever its name.
    place = _given(options, "save_dir")
    return ["eval", "--data", data, *place] if data else ["export", *place]


def _after_eval(options):
    words = ["report", *_run(options), "--data", options.data]
    return [*words, *(["--part", options.part] if options.part else [])]


def _after_crossval(options, result):
    """`result` has the exported model, or None."""
    if not result:
        return []
    if result["export"]:
        return ["serve", "--model", result["export"]["model"]]
    # What the scores were for: a model of all photos. The same command goes on from its folds.
    return ["crossval", *_repeat(options, set()), "--export", "all"]


def _after_tuning(options, result):
    """`result` has the file of the best settings, and a verdict on them, or None."""
    if not result or not result["settings"]:
        return []
    if result["verdict"]["verdict"] != "worse":
        words = ["--config", result["settings"], *_given(options, "save_dir")]
        return ["train", "--data", options.data, *words]
    own_names = {"data", "search", "minutes", "trials", "seeds", "storage", "run", "lang"}
    return ["train", "--data", options.data, *_repeat(options, own_names)]


def _repeat(options, left_out):
    """list of str, what was given as words of a command."""
    names = [name for name in options._fields if name in options.given - NOT_REPEATED - left_out]
    return [word for name in names for word in (f"--{name}", show(getattr(options, name)))]


def _export(options, result):
    """`result` has the run's path (None of an exported model), and whether it is exported."""
    if not result or not result["run"] or result["is_exported"]:
        return []
    folder, name = os.path.split(result["run"])
    if os.path.normpath(folder) == os.path.normpath(options.save_dir):
        return ["export", "--run", name, *_given(options, "save_dir")]
    return ["export", "--run", result["run"]]


def _run(options):
    return [*_given(options, "run"), *_given(options, "save_dir")]


def _model(options):
    words = ["--model", options.run] if "run" in options.given else []
    return [*words, *_given(options, "save_dir")]


def _given(options, name):
    return [f"--{name}", getattr(options, name)] if name in options.given else []
