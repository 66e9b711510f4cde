"""Training: `fit(options)`, the only training loop of the project."""

import json
import os
import shutil
import time

import numpy as np

import run_folder
from augment import Augmentation
from backend import import_keras
from errors import ImageError, InputError
from job import fingerprint, prepare, say
from preprocess import load

CHECK_IMAGES = 16  # files in the run's check/


def main(options):
    """`--mode train`."""
    metrics = fit(options)
    if options.json:
        print(json.dumps(metrics))


def fit(options):
    """Trains a classifier and leaves its run folder.

    Args:
        options: the options of `--mode train`.

    Returns:
        dict, the content of the run's metrics.json, and `run`, its path.

    Raises:
        InputError: bad input, before any training; or too many undecodable images.
        RunError: the loss is no longer a number; weights cannot be downloaded.
    """
    started = time.monotonic()
    job = prepare(options)
    options = job.options

    say("starting Keras ...")
    keras = import_keras()
    import callbacks
    import checkpoint

    keras.utils.set_random_seed(options.seed)
    training, validation = make_batches(job)
    model = make_model(job, len(training))
    if job.state:
        checkpoint.load(os.path.join(job.path, run_folder.CHECKPOINT), model)
    else:
        _start_run(job)
    writer = callbacks.RunWriter(job.path, options.patience, fingerprint(job), job.state, started)
    done = len(writer.history)
    try:
        if not writer.finished(options.epochs):
            _announce(job, model, len(training), done)
            model.fit(
                training.dataset(),
                validation_data=validation.dataset(),
                initial_epoch=done,
                epochs=options.epochs,
                shuffle=False,  # the batches have an order of their own
                verbose=0,
                callbacks=[
                    callbacks.Epochs(training, validation, options.max_bad),
                    writer,
                    callbacks.Progress(
                        len(job.training.names), options.batch_size, options.epochs, done
                    ),
                    keras.callbacks.TensorBoard(
                        os.path.join(options.log_dir, os.path.basename(job.path)),
                        write_graph=False,
                    ),
                ],
            )
        else:
            say(f"{job.path} has finished its {done} epochs already")
    except BaseException as error:
        # Keras wraps an error of a data set beyond recognition.
        refused = training.error or validation.error
        if refused and not isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise refused from None
        if writer.saved:
            say(f"stopped; --resume {os.path.basename(job.path)} goes on after epoch "
                f"{writer.saved}")
        raise
    finally:
        training.close()
        validation.close()

    return _finish(job, model, writer, training, validation)


def make_batches(job):
    """(training, validation) batches of a job, two `ImageBatches`."""
    from data_gen_label import ImageBatches

    options = job.options
    common = {
        "classes": len(job.labels),
        "batch_size": options.batch_size,
        "preprocessing": run_folder.preprocessing(options),
        "seed": options.seed,
        "workers": options.workers,
        "report": say,
    }
    training = ImageBatches(
        job.training,
        shuffle=True,
        augmentation=Augmentation(*(getattr(options, name) for name in Augmentation._fields)),
        label_smoothing=options.label_smoothing,
        max_bad=options.max_bad,
        **common,
    )
    return training, ImageBatches(job.validation, **common)


def make_model(job, steps):
    """The compiled model of a job; `steps` is the number of steps an epoch."""
    import keras

    from model import build_model

    options = job.options
    model = build_model(
        options.backbone,
        len(job.labels),
        options.input_size,
        weights="none" if job.state else options.weights,
        dropout=options.dropout,
        drop_connect=options.drop_connect,
    )
    model.compile(
        optimizer=make_optimizer(options, steps),
        # Rows of weight 0 leave the mean as well as the sum.
        loss=keras.losses.CategoricalCrossentropy(reduction="mean_with_sample_weight"),
        weighted_metrics=[keras.metrics.CategoricalAccuracy("accuracy")],
        jit_compile=_jit(),
    )
    model.optimizer.build(model.trainable_variables)
    return model


def make_optimizer(options, steps):
    """The optimizer with its schedule; `steps` is the number of steps an epoch."""
    import keras

    from warmup_cosine_decay_scheduler import WarmupCosineDecay

    schedule = WarmupCosineDecay(
        options.learning_rate,
        total_steps=options.epochs * steps,
        warmup_steps=round(options.warmup_epochs * steps),
    )
    decay = options.weight_decay
    if options.optimizer == "adam":
        return keras.optimizers.Adam(schedule)
    if options.optimizer == "rmsprop":
        return keras.optimizers.RMSprop(schedule)
    if options.optimizer == "sgd":
        made = keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True, weight_decay=decay)
    else:
        made = keras.optimizers.AdamW(schedule, weight_decay=decay)
    made.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return made


def _jit():
    """XLA makes a step on a processor six times slower, and pays on a GPU."""
    import keras

    if keras.backend.backend() != "tensorflow":
        return "auto"
    import tensorflow

    return "auto" if tensorflow.config.list_physical_devices("GPU") else False


def _start_run(job):
    options = job.options
    run_folder.create(job.path, options, job.labels, options.overwrite)
    if options.overwrite:
        logs = os.path.join(options.log_dir, os.path.basename(job.path))
        for part in ("train", "validation"):  # what TensorBoard's callback makes, nothing else
            shutil.rmtree(os.path.join(logs, part), ignore_errors=True)


def _announce(job, model, steps, done):
    options = job.options
    say(
        f"{options.backbone} ({model.count_params():,} parameters) at "
        f"{options.input_size} x {options.input_size} pixels, start: "
        f"{f'epoch {done + 1} of ' + job.path if job.state else options.weights}; "
        f"{steps} steps of {options.batch_size} an epoch, {options.optimizer} at "
        f"{options.learning_rate:g}; run {job.path}"
    )


def _finish(job, model, writer, training, validation):
    """Leaves check/ and metrics.json, and says how it went."""
    import callbacks
    import pretrained

    pretrained.load(model, os.path.join(job.path, run_folder.BEST))
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
        "undecodable_images": len(training.bad) + len(validation.bad),
        "train_seconds": round(writer.seconds, 1),
    }
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
        run_folder.flush(os.path.join(partial, name))
        table[name] = [float(value) for value in row]
    run_folder.write_text(
        os.path.join(partial, run_folder.CHECK_FILE),
        json.dumps(table, ensure_ascii=False, indent=1) + "\n",
    )
    run_folder.replace_folder(partial, folder)
