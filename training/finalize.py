"""What a finished training leaves beside its weights: check/ and metrics.json."""

import dataclasses
import os

import keras
import numpy as np

from common.baseline import no_better
from common.console import say
from compute.backend import exact_float32, use_precision
from compute.devices import leave_distribution
from modeling import weight_files
from runs import run_folder
from runs.reference_images import write_check
from runs.results import best_epoch
from training.callbacks import format_duration
from training.compilation import make_model
from training.soup import make_soup


def finalize(setup, devices, model, state, undecodable_count):
    """Leaves check/ and metrics.json, and says how the training went.

    Args:
        setup: `TrainingSetup`.
        devices: `Devices` that it was trained on.
        model: the run's Keras model, on these.
        state: `TrainingState`.
        undecodable_count: int, images that could not be decoded.

    Returns:
        dict, the content of metrics.json, and `run`, the run's path.
    """
    if keras.config.dtype_policy().name != "float32" or devices.sharding.devices > 1:
        # What is exported and used computes in float32 on one device, so check/ has to.
        use_precision("float32")
        leave_distribution()
        options = setup.options._replace(weights="none")
        model = make_model(dataclasses.replace(setup, options=options))
    exact_float32()
    soup = make_soup(setup, model, state) if setup.options.soup else None
    weight_files.load(model, os.path.join(setup.run_path, run_folder.BEST))
    write_check(setup, model)
    best = state.best_row
    if soup and soup.is_better:
        best = {**best, **soup.scores}
    class_counts = np.bincount(setup.validation.class_ids, minlength=len(setup.class_names))
    metrics = {
        "best_epoch": best["epoch"],
        "val_accuracy": best["val_accuracy"],
        "val_loss": best["val_loss"],
        "epochs": len(state.history),
        "train_images": len(setup.training.file_names),
        "val_images": len(setup.validation.file_names),
        "val_class_images": class_counts.tolist(),  # in the order of the class ids
        "classes": len(setup.class_names),
        "undecodable_images": undecodable_count,
        "train_seconds": round(state.seconds, 1),
    }
    if state.lr_reductions:
        metrics["rate_halvings"] = state.lr_reductions
    if soup:
        metrics["soup"] = soup.to_json()
    if setup.lesson:
        taught_count = len(setup.photos.file_names) - len(setup.training.file_names)
        metrics |= {"teacher": setup.options.teacher, "unlabelled_images": taught_count}
    run_folder.add_metrics(setup.run_path, metrics)
    _describe(setup, state, best, soup)
    return {"run": setup.run_path, **run_folder.read_metrics(setup.run_path)}


def _describe(setup, state, best, soup):
    """Says how the training went.

    Args:
        setup: `TrainingSetup`.
        state: `TrainingState`.
        best: dict, the results of the epoch that is kept, with the scores of what is kept.
        soup: `Soup`, or None.
    """
    val_count = len(setup.validation.file_names)
    is_average = bool(soup and soup.is_better)
    is_head = best["epoch"] == 1 and not is_average
    if setup.options.linear_head and is_head and len(state.history) > 1:
        say(
            f"note: in none of the {len(state.history) - 1} epochs after it were the layers better "
            f"than the linear head on the {val_count} validation images: that head is kept"
        )
    highest = state.history[best_epoch(state.history)]
    if highest["val_accuracy"] > best["val_accuracy"] and not is_average:
        say(
            f"note: epoch {highest['epoch']} had val_accuracy {highest['val_accuracy']:.4f}; with "
            f"{val_count} validation images that can be chance, so the last epoch is kept "
            "(--select best takes the other)"
        )
    if soup:
        say(soup.describe())
    if note := no_better(setup.validation.class_ids, setup.class_names, best["val_accuracy"]):
        say(f"note: {note}, on the validation images")
    what = f"{'best' if state.best_row == highest else 'last'}: epoch {best['epoch']}"
    if is_average:
        what = f"best: the average of {len(soup.epochs)} epochs"
    say(
        f"{what} with val_accuracy {best['val_accuracy']:.4f} and val_loss "
        f"{best['val_loss']:.4f}, after {format_duration(state.seconds)}; everything is in "
        f"{setup.run_path}"
    )
