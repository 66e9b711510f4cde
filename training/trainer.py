"""The only training loop of the project: `Trainer.run` is its story."""

import contextlib
import dataclasses
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass

import keras

from common.console import say, waiting
from common.errors import DivergedError, RunError
from compute.backend import use_precision
from compute.devices import SINGLE_DEVICE, Devices
from compute.keras_patches import build_metrics
from data.splitting import hash_samples
from runs import checkpoint as checkpoints
from runs import run_folder
from runs.checkpoint import Checkpoint
from runs.margin_files import write_trained_on, write_unlabelled, write_validated_on
from training import fine_tuning, preemption, solved_heads, time_budget
from training.announcements import announce, say_stopped
from training.averaging import keeps_average
from training.background_tracking import BackgroundTracking
from training.batches import make_batches
from training.callbacks import EpochMonitor, ProgressBar
from training.compilation import compile_model, make_model
from training.device_checks import check_devices, synchronizes_batchnorm
from training.feature_cache import FeatureCache
from training.finalize import finalize
from training.label_margins import MarginWriter, make_margins
from training.patience import Patience
from training.run_recorder import RunRecorder
from training.setup import TrainingSetup, fingerprint, with_epochs
from training.stages import Stage, count_frozen_epochs, list_stages
from training.weights_selection import WeightsSelection
from training.weights_writer import WeightsWriter

WHOLE_NETWORK = Stage(0, 100_000, frozen=False)  # what the steps are timed with
MAX_LR_REDUCTIONS = 3  # halvings of the learning rate, until --nan_policy restore gives up


@dataclass
class Trainer:
    """One training, from a checked setup to a finished run.

    Attributes:
        setup: `TrainingSetup`.
        devices: `Devices` to train on; Keras has been imported for them.
        started_at: float, when the training began, as `time.monotonic` gives it.
        feature_cache: `FeatureCache` shared with other trainings of the same network, or None.
        tracking: `BackgroundTracking` that follows the run, or None.
        ends_early: function from the history to bool, as of `Patience`, or None.
        checkpoint: the `Checkpoint` to continue from, or None.
        last_stage: the `Stage` that was trained last, or None.

    Example:
        >>> Trainer(prepare(options), Devices(), time.monotonic()).run()["val_accuracy"]
        0.986
    """

    setup: TrainingSetup
    devices: Devices
    started_at: float
    feature_cache: FeatureCache | None = None
    tracking: BackgroundTracking | None = None
    ends_early: Callable | None = None
    checkpoint: Checkpoint | None = None
    last_stage: Stage | None = None

    def run(self):
        """Trains.

        Returns:
            dict, the content of the run's metrics.json, and `run`, its path; None in a process
            that is not the one to write the run's folder.

        Raises:
            DivergedError: the loss or the weights are NaN.
            InputError: the devices cannot do what the options ask for, or too many images are
                undecodable.
        """
        with waiting("building the network"):
            self.build()
        with self.open_run_folder():
            self.make_callbacks()
            with self.open_batches():
                while stage := self.next_stage():
                    with self.frozen_layers(stage):
                        self.compile(stage)
                        self.fit(stage)
            with waiting("checking the best weights"):
                return self.finalize()

    def build(self):
        """Makes the batches and the model, with every random number from the seed."""
        options = self.setup.options
        check_devices(options, self.devices)
        self.asked_options = options  # the run keeps these, not what these devices need
        options = options._replace(
            sync_batchnorm=synchronizes_batchnorm(options, self.devices.sharding)
        )
        self.setup = dataclasses.replace(self.setup, options=options)
        self.checkpoint = self.setup.checkpoint
        use_precision(options.mixed_precision, float16=self.devices.strategy is None)
        keras.utils.set_random_seed(options.seed)
        self.training_batches, self.validation_batches = make_batches(
            self.setup, self.devices.sharding
        )
        with self.devices.scope():
            self.model = make_model(self.setup)
        if options.minutes and not options.resume:
            self._fit_into_minutes()

    def _fit_into_minutes(self):
        """Chooses the number of epochs that --minutes leaves time for."""
        options, frozen_epochs = self.setup.options, count_frozen_epochs(self.setup.options)
        with self.frozen_layers(WHOLE_NETWORK), self.devices.scope():
            batch_counts = len(self.training_batches), len(self.validation_batches)
            compile_model(self.model, self.setup, WHOLE_NETWORK, batch_counts[0], self.devices)
            first_seconds, step_seconds = time_budget.time_steps(self.model, self.training_batches)
        tuned_epochs = time_budget.count_epochs(
            options.minutes * 60 - (time.monotonic() - self.started_at),
            first_seconds,
            step_seconds,
            *batch_counts,
            mirrored=options.horizontal_flip if options.linear_head else None,
        )
        epochs = max(1, frozen_epochs + tuned_epochs)
        say(
            f"--minutes {options.minutes:g}: {epochs} epochs, at {step_seconds:.2g} s per step"
            + ("" if tuned_epochs else "; an epoch of all layers would take longer")
        )
        photo_count = len(self.setup.photos.file_names)
        self.asked_options = with_epochs(self.asked_options, epochs, photo_count)
        options = with_epochs(options, epochs, photo_count)
        self.setup = dataclasses.replace(self.setup, options=options)

    @contextlib.contextmanager
    def open_run_folder(self):
        """A context in which the run's folder is there and no other process trains the run."""
        if not self.devices.is_chief:
            yield
            return
        if not self.checkpoint:
            self._create_run_folder()
        with run_folder.locked(self.setup.run_path):
            if self.checkpoint:
                run_folder.write_options(self.setup.run_path, self.asked_options)
            yield

    def _create_run_folder(self):
        options = self.asked_options
        replace = options.overwrite or options.resume  # a run without any checkpoint yet
        run_folder.create(self.setup.run_path, options, self.setup.class_names, replace)
        if replace:
            log_folder = self._log_folder()
            for part in ("train", "validation"):  # what TensorBoard's callback makes, nothing else
                shutil.rmtree(os.path.join(log_folder, part), ignore_errors=True)

    def _log_folder(self):
        return os.path.join(self.setup.options.log_dir, os.path.basename(self.setup.run_path))

    def make_callbacks(self):
        """Makes what accompanies the steps: recorder, monitor, margins, progress bar."""
        options, batches = self.setup.options, (self.training_batches, self.validation_batches)
        frozen_epochs = count_frozen_epochs(options)
        frozen_epochs = frozen_epochs if frozen_epochs < options.epochs else 0
        self.recorder = RunRecorder(
            self.model,
            WeightsWriter(
                self.model,
                self.setup.run_path,
                options.keep,
                list_stages(options)[-1].first if options.soup else None,
            ),
            fingerprint(self.setup),
            batches,
            Patience(options.patience, frozen_epochs, self.ends_early),
            WeightsSelection(options.select, options.epochs, len(self.setup.validation.file_names)),
            self.devices.is_chief,
            self.started_at,
        )
        if self.checkpoint:
            self.recorder.resume(self.checkpoint)
        self.callbacks = [EpochMonitor(*batches, options.max_bad), self.recorder]
        self.margins = make_margins(self.setup, self.devices)
        if self.margins:
            self.callbacks.append(
                MarginWriter(*self.margins, self.training_batches, self.setup.run_path)
            )
        if self.devices.is_chief:
            self._write_photos()
            image_count = len(self.setup.photos.file_names)
            _, done_steps = self.recorder.saved or (0, 0)
            self.callbacks.append(
                ProgressBar(image_count, options.batch_size, options.epochs, done_steps)
            )
        if self.tracking:
            self.tracking.update()
            self.callbacks.append(
                keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: self.tracking.update())
            )

    def _write_photos(self):
        """Keeps what is trained and validated on, by path and content."""
        setup = self.setup
        training, validation, unlabelled = (
            hash_samples(samples, setup.options.workers) if samples else None
            for samples in (setup.training, setup.validation, setup.unlabelled)
        )
        write_trained_on(setup.run_path, setup.training, training)
        write_validated_on(setup.run_path, validation)
        if unlabelled is not None:
            write_unlabelled(setup.run_path, unlabelled)
        if setup.lesson:
            setup.lesson.write(setup.run_path)

    @contextlib.contextmanager
    def open_batches(self):
        """A context that says what is trained and where it stopped, and closes the batches."""
        both = (self.training_batches, self.validation_batches)
        try:
            if self.devices.is_chief:
                announce(
                    self.setup, self.devices, self.model, self.recorder, self.checkpoint is not None
                )
            yield
        except BaseException as error:
            if self.devices.is_chief:
                say_stopped(self.recorder)
            # Keras wraps an error of a data set beyond recognition.
            data_errors = [batches.error for batches in both if batches.error]
            if data_errors and isinstance(error, Exception):
                raise data_errors[0] from None
            raise
        finally:
            for batches in both:
                batches.close()

    def next_stage(self):
        """The `Stage` to train now, or None where nothing is left to train."""
        stages = list_stages(self.setup.options)
        is_finished = self.recorder.is_finished(self.setup.options.epochs)
        if self.checkpoint:
            if is_finished and self.recorder.is_published():
                return None
            return next((stage for stage in stages if stage.contains(self.checkpoint)), None)
        if is_finished:
            return None
        done_epochs = self.last_stage.last if self.last_stage else 0
        return next((stage for stage in stages if stage.first >= done_epochs), None)

    def frozen_layers(self, stage):
        """A context in which that is frozen which the stage does not train."""
        if stage.frozen:
            return fine_tuning.FrozenBackbone(self.model)
        if self.setup.options.freeze_batchnorm:
            return fine_tuning.FrozenBatchNorm(self.model)
        return contextlib.nullcontext()

    def compile(self, stage):
        """Compiles what the stage trains: the model, or the head behind cached features."""
        self.body, self.fitted_model = None, self.model
        if stage.solved or (stage.frozen and self.setup.options.cache_features):
            self.body, self.fitted_model = fine_tuning.split_model(self.model, self.devices)
        with self.devices.scope():
            compile_model(
                self.fitted_model,
                self.setup,
                stage,
                len(self.training_batches),
                self.devices,
                self.margins,
                self.recorder.state.lr_reductions,
            )
        for metric in self.margins:
            metric.reset_state()  # Keras resets only what a compiled model has used already

    def fit(self, stage):
        """Trains a stage, or what a checkpoint leaves of it; a NaN loss goes back to the last one.

        Raises:
            DivergedError: the loss or the weights are NaN, and --nan_policy is stop.
        """
        checkpoint, self.checkpoint = self.checkpoint, None
        self.last_stage = stage
        try:
            metric_values = self._restore(stage, checkpoint)
            epochs_done = checkpoint.epochs if checkpoint else stage.first
            is_finished = self.recorder.is_finished(self.setup.options.epochs)
            if checkpoint and (epochs_done == stage.last or is_finished):
                # What Keras does when a training ends.
                self.fitted_model.optimizer.finalize_variable_values(
                    self.fitted_model.trainable_variables
                )
                return
            training, validation = self._stage_batches(stage)
            if stage.solved:
                self._solve_head(training)
            self._fit_epochs(
                (training, validation), epochs_done, stage.last, checkpoint, metric_values
            )
        except DivergedError as error:
            self.go_back(error)

    def _restore(self, stage, checkpoint):
        """Sets model, optimizer and batches to a checkpoint; gives its metrics' variables."""
        options, model = self.setup.options, self.fitted_model
        if not checkpoint:
            if not stage.first:
                self.recorder.save(model)  # what a NaN loss goes back to
            return {}
        metric_values = checkpoints.load(checkpoint.path, self.model, model.optimizer)
        self.training_batches.resume_position = checkpoint.epochs, checkpoint.steps
        if checkpoint.epochs and not checkpoint.steps:
            self.recorder.publish(model)
        for metric in self.margins:  # several devices have kept none
            row_count = checkpoint.steps * options.batch_size
            row_count = min(row_count, len(self.setup.training.file_names))
            metric_values = {**metric.unknown_values(row_count), **metric_values}
        is_tensorflow = keras.backend.backend() == "tensorflow"
        if checkpoint.steps and is_tensorflow and not self.devices.strategy:
            # Elsewhere `fit` does so before the first step.
            build_metrics(model, len(self.setup.class_names))
        return metric_values

    def _solve_head(self, features):
        """Sets the head to the solution on `FeatureBatches`."""
        class_count = len(self.setup.class_names)
        solution = solved_heads.solve(self.setup.options, features.rows(), class_count)
        for layer_name, arrays in solution.items():
            self.model.get_layer(layer_name).set_weights(arrays)

    def _fit_epochs(self, both, first_epoch, last_epoch, checkpoint, metric_values):
        """Keras's `fit`, from `first_epoch` to before `last_epoch`, both counted from 0."""
        model, options = self.fitted_model, self.setup.options
        training, validation = both
        averaging = [keras.callbacks.SwapEMAWeights()] if keeps_average(model) else []
        charts = []
        if self.devices.is_chief:
            charts = [keras.callbacks.TensorBoard(self._log_folder(), write_graph=False)]
        with preemption.Interruptions() as interruptions:
            mid_epoch_checkpoints = preemption.MidEpochCheckpoints(
                self.recorder, interruptions, options.checkpoint_minutes, checkpoint, metric_values
            )
            model.fit(
                training.dataset(),
                validation_data=validation.dataset(),
                initial_epoch=first_epoch,
                epochs=last_epoch,
                shuffle=False,  # the batches have an order of their own
                verbose=0,
                callbacks=[*self.callbacks, mid_epoch_checkpoints, *averaging, *charts],
            )

    def _stage_batches(self, stage):
        """The batches of training and validation: of images, or of their cached features."""
        ordered_batches = (self.training_batches, self.validation_batches)
        if self.body is None:
            return ordered_batches
        image_batches = make_batches(self.setup, SINGLE_DEVICE, augmented=False)
        try:
            folder, cache = self.setup.run_path, self.feature_cache
            is_mirrored = stage.solved and self.setup.options.horizontal_flip
            if cache:
                cache.open(fine_tuning.body_digest(self.body, self.setup.options, is_mirrored))
            # Photos that validate here are learned from in the trainings that share the cache.
            views = is_mirrored, bool(is_mirrored and cache)
            return [
                fine_tuning.FeatureBatches(self.body, images, ordered, folder, mirrored, cache)
                for images, ordered, mirrored in zip(image_batches, ordered_batches, views)
            ]
        finally:
            for batches in image_batches:
                batches.close()

    def go_back(self, error):
        """Returns to the last checkpoint at half the learning rate, after a NaN loss.

        Args:
            error: `DivergedError`, raised again where --nan_policy is stop.

        Raises:
            DivergedError: there is no checkpoint yet.
            RunError: the rate has been halved often enough.
        """
        if self.setup.options.nan_policy == "stop":
            raise error
        lr_reductions = self.recorder.state.lr_reductions + 1
        if lr_reductions > MAX_LR_REDUCTIONS:
            raise RunError(
                f"{error} (with the learning rate halved {MAX_LR_REDUCTIONS} times)"
            ) from None
        checkpoint_folder = os.path.join(self.setup.run_path, run_folder.CHECKPOINT)
        self.checkpoint = checkpoints.newest(checkpoint_folder, say)
        if not self.checkpoint:
            raise DivergedError(
                f"{error}; --nan_policy restore: there is no checkpoint to go back to, since that "
                "was so before the first step: check --weights"
            ) from None
        self.recorder.restore(self.checkpoint)
        self.recorder.state.lr_reductions = lr_reductions
        say(
            f"{error}; --nan_policy restore: back to epoch {self.checkpoint.epochs}, step "
            f"{self.checkpoint.steps}, with the learning rate halved ({lr_reductions} of "
            f"{MAX_LR_REDUCTIONS})"
        )

    def finalize(self):
        """Leaves check/ and metrics.json; gives what `run` returns."""
        both = (self.training_batches, self.validation_batches)
        undecodable_count = self.devices.total(sum(len(part.undecodable) for part in both))
        if not self.devices.is_chief:
            return None
        return finalize(
            self.setup, self.devices, self.model, self.recorder.state, undecodable_count
        )
