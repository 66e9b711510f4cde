"""What a finished training leaves beside its weights: check/ and metrics.json."""

import json
import os
import shutil

import numpy as np

import run_folder
from common.console import say
from common.errors import ImageError, InputError
from common.files import flush, replace_folder, write_text
from compiling import make_model
from compute.backend import exact_float32, use_precision
from compute.devices import leave_distribution
from data.decoding import load

CHECK_IMAGES = 16  # files in the run's check/


def finish(job, devices, model, writer, bad):
    """Leaves check/ and metrics.json, and says how it went.

    Args:
        job: the `job.Job`.
        devices: `devices.Devices` that it was trained on.
        model: the run's model, on these.
        writer: the `callbacks.RunWriter`.
        bad: number of images that could not be decoded.

    Returns:
        dict, as `train.fit` gives it.
    """
    import keras

    import callbacks
    from modeling import weight_files

    if keras.config.dtype_policy().name != "float32" or devices.spread.devices > 1:
        # What is exported and used computes in float32 on one device, so check/ has to.
        use_precision("float32")
        leave_distribution()
        model = make_model(job._replace(options=job.options._replace(weights="none")))
    exact_float32()
    weight_files.load(model, os.path.join(job.path, run_folder.BEST))
    _write_check(job, model)
    best = writer.best
    metrics = {
        "best_epoch": best["epoch"],
        "val_accuracy": best["val_accuracy"],
        "val_loss": best["val_loss"],
        "epochs": len(writer.history),
        "train_images": len(job.training.names),
        "val_images": len(job.validation.names),
        "classes": len(job.labels),
        "undecodable_images": bad,
        "train_seconds": round(writer.seconds, 1),
    }
    if writer.halvings:
        metrics["rate_halvings"] = writer.halvings
    run_folder.add_metrics(job.path, metrics)
    say(
        f"best: epoch {best['epoch']} with val_accuracy {best['val_accuracy']:.4f} and val_loss "
        f"{best['val_loss']:.4f}, after {callbacks.clock(writer.seconds)}; everything is in "
        f"{job.path}"
    )
    return {"run": job.path, **run_folder.read_metrics(job.path)}


def _write_check(job, model):
    """Copies some validation images with the probabilities that the best weights give them."""
    preprocessing = run_folder.preprocessing(job.options)
    count = len(job.validation.names)
    files, images = [], []
    # Spread over the whole folder: neighbours are often of one class.
    for position in np.unique(np.linspace(0, count - 1, min(count, CHECK_IMAGES)).astype(int)):
        path = os.path.join(job.validation.folder, job.validation.names[position])
        try:
            images.append(load(path, preprocessing))
            files.append(path)
        except ImageError:
            continue
    if not files:
        raise InputError(f"{job.validation.folder}: none of the images looked at can be decoded")
    probabilities = np.asarray(model.predict_on_batch(np.stack(images)))
    folder = os.path.join(job.path, run_folder.CHECK)
    partial = folder + ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    os.makedirs(partial)
    table = {}
    for path, row in zip(files, probabilities):
        name = os.path.basename(path)
        shutil.copyfile(path, os.path.join(partial, name))
        flush(os.path.join(partial, name))
        table[name] = [float(value) for value in row]
    write_text(
        os.path.join(partial, run_folder.CHECK_FILE),
        json.dumps(table, ensure_ascii=False, indent=1) + "\n",
    )
    replace_folder(partial, folder)
