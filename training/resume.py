"""--resume: which options, which folder and which checkpoint a stopped training continues with."""

import os
from typing import NamedTuple

from common.console import say
from common.errors import InputError
from config.modes import resumable_options, saved_options
from config.parser import show
from efficientnet import lite_packages
from runs import checkpoint, run_folder
from training.normalization import with_normalization

# Options that this command may set to another value than the run has
RESUMABLE = resumable_options("train")
# They have done their work once the run is found and compared; the run's own values stay.
USED_BEFORE = {"save_dir", "config", "force"}
# What is taken from this command: always what no run keeps; of the rest only what was given
ALWAYS_NEW = (RESUMABLE - saved_options("train") - USED_BEFORE) | {"given"}
NEW_WHERE_GIVEN = (RESUMABLE & saved_options("train")) - USED_BEFORE | {"epochs"}


class ResumePoint(NamedTuple):
    """Where a training continues.

    Attributes:
        options: the options that it was started with, and those that may change.
        run_path: str, the run's folder.
        checkpoint: `Checkpoint`, or None where the first one was never written.
    """

    options: tuple
    run_path: str
    checkpoint: checkpoint.Checkpoint | None


def find_resume_point(options):
    """Finds what --resume names, and what it may change.

    Args:
        options: the options of `--mode train`, with `resume`.

    Returns:
        `ResumePoint`.

    Raises:
        InputError: there is no such run, it is incomplete, or an option differs that a run
            keeps.
    """
    run_path = run_folder.find(options.resume, options.save_dir, "--resume")
    if run_folder.is_exported(run_path):
        raise InputError(f"--resume: {run_path} is an exported model; a run is needed")
    stored = run_folder.read(run_path, weights=None).options
    if stored.epochs is None:
        options_path = os.path.join(run_path, run_folder.OPTIONS)
        raise InputError(f"{options_path}: epochs is missing; it must be a whole number")
    run_folder.check_idle(run_path)
    if stored.head and "epochs" in options.given and options.epochs > stored.epochs:
        raise InputError(
            f"--epochs: {options.epochs} is more than {run_path} can use, whose head is solved in "
            f"one epoch; start a new run with --weights {os.path.join(run_path, run_folder.BEST)}"
        )
    options = with_normalization(options)
    changed = _changed_options(options, stored, run_path)
    new_names = (options.given & NEW_WHERE_GIVEN) | ALWAYS_NEW
    resumed = stored._replace(**changed | {name: getattr(options, name) for name in new_names})
    newest = checkpoint.newest(os.path.join(run_path, run_folder.CHECKPOINT), say)
    if newest:
        _check_best_weights(run_path, newest)
    elif os.path.exists(os.path.join(run_path, run_folder.RESULTS)):
        raise InputError(
            f"--resume: {run_path} has results but no checkpoint; start it again with --run "
            f"{os.path.basename(run_path)} --overwrite"
        )
    else:
        say(f"{run_path} has no checkpoint yet: it starts from the beginning")
        check_weights(resumed.weights, resumed.backbone)
    return ResumePoint(resumed, run_path, newest)


def _changed_options(options, stored, run_path):
    """dict of the given options that differ from the run's own; refused without --force."""
    changed = {
        name: getattr(options, name)
        for name in options.given - RESUMABLE
        if getattr(options, name) != getattr(stored, name)
        and not (name == "epochs" and options.epochs > stored.epochs)
    }
    if changed and (not options.force or "run" in changed):
        name = min(changed)
        raise InputError(
            f"--{name}: {show(changed[name])} is not what {run_path} was started with, "
            f"{show(getattr(stored, name))}; a run resumes with its own options, or with --force"
        )
    for name, value in changed.items():
        say(f"note: --force: --{name} {show(value)} instead of {show(getattr(stored, name))}")
    return changed


def _check_best_weights(run_path, newest):
    best_number = newest.state.best_number
    # The best weights of an epoch that has just ended are made again from its checkpoint.
    needed = best_number and (best_number != newest.epochs or newest.steps)
    if needed and not os.path.exists(os.path.join(run_path, run_folder.BEST)):
        raise InputError(f"{run_path}: is not a complete run: {run_folder.BEST} is missing")


def check_weights(weights, backbone):
    """Refuses a weights file, or a package with weights, that is not there.

    Args:
        weights: str, the value of --weights: "imagenet", "none" or a path.
        backbone: str, the value of --backbone.

    Raises:
        InputError: what is missing and what to do.
    """
    if weights == "imagenet" and lite_packages.is_lite(backbone):
        lite_packages.checked_file(backbone)
    if weights not in ("imagenet", "none") and not os.path.isfile(weights):
        raise InputError(
            f"--weights: {weights}: no such file; allowed: imagenet, none or a weights file"
        )
