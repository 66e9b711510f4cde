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
    weight_files.load(model, os.path.join(setup.run_path, run_folder.BEST))
    write_check(setup, model)
    best = state.best_row
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
    run_folder.add_metrics(setup.run_path, metrics)
    if setup.options.linear_head and best["epoch"] == 1 < len(state.history):
        say(
            f"note: in none of the {len(state.history) - 1} epochs after it were the layers better "
            f"than the linear head on the {len(setup.validation.file_names)} validation images: "
            "that head is kept"
        )
    highest = state.history[best_epoch(state.history)]
    if highest["val_accuracy"] > best["val_accuracy"]:
        say(
            f"note: epoch {highest['epoch']} had val_accuracy {highest['val_accuracy']:.4f}; with "
            f"{len(setup.validation.file_names)} validation images that can be chance, so the last "
            "epoch is kept (--select best takes the other)"
        )
    if note := no_better(setup.validation.class_ids, setup.class_names, best["val_accuracy"]):
        say(f"note: {note}, on the validation images")
    say(
        f"{'best' if best == highest else 'last'}: epoch {best['epoch']} with val_accuracy "
        f"{best['val_accuracy']:.4f} and val_loss "
        f"{best['val_loss']:.4f}, after {format_duration(state.seconds)}; everything is in "
        f"{setup.run_path}"
    )
    return {"run": setup.run_path, **run_folder.read_metrics(setup.run_path)}
