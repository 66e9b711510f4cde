"""What a finished training leaves beside its weights: check/ and metrics.json."""

import os

from common.console import say
from compute.backend import exact_float32, use_precision
from compute.devices import leave_distribution
from runs import run_folder
from runs.reference_images import write_check
from training.compilation import make_model


def finish(job, devices, model, writer, bad):
    """Leaves check/ and metrics.json, and says how it went.

    Args:
        job: the `setup.Job`.
        devices: `devices.Devices` that it was trained on.
        model: the run's model, on these.
        writer: the `callbacks.RunWriter`.
        bad: number of images that could not be decoded.

    Returns:
        dict, as `train.fit` gives it.
    """
    import keras

    from modeling import weight_files
    from training import callbacks

    if keras.config.dtype_policy().name != "float32" or devices.sharding.devices > 1:
        # What is exported and used computes in float32 on one device, so check/ has to.
        use_precision("float32")
        leave_distribution()
        model = make_model(job._replace(options=job.options._replace(weights="none")))
    exact_float32()
    weight_files.load(model, os.path.join(job.path, run_folder.BEST))
    write_check(job, model)
    best = writer.best
    metrics = {
        "best_epoch": best["epoch"],
        "val_accuracy": best["val_accuracy"],
        "val_loss": best["val_loss"],
        "epochs": len(writer.history),
        "train_images": len(job.training.file_names),
        "val_images": len(job.validation.file_names),
        "classes": len(job.class_names),
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
