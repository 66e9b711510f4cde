"""The batches of training and of validation, from a run's options."""

from common.console import say
from data.augmentation import Augmentation
from data.mixing import Mixing
from data.prefetching import Reading
from data.reading_processes import ReadingProcesses
from runs import run_folder


def make_batches(setup, sharding, augmented=True):
    """Makes the batches of a training.

    Args:
        setup: `setup.TrainingSetup`.
        sharding: `devices.Sharding`, the devices that the batches go to.
        augmented: bool; without augmentation the training images come in the samples' order
            and are neither changed nor mixed.

    Returns:
        (training, validation), two `ImageBatches`.
    """
    from data_gen_label import ImageBatches

    options = setup.options
    reading = Reading(
        options.workers,
        time_limit=options.data_time_limit,
        report=say,
        processes=ReadingProcesses(options.workers),
    )
    common = {
        "classes": len(setup.class_names),
        "batch_size": options.batch_size,
        "preprocessing": run_folder.preprocessing(options),
        "sharding": sharding,
    }
    lesson = setup.lesson
    training = ImageBatches(
        setup.photos,
        variation=training_variation(options, augmented)._replace(
            targets=lesson.rows if lesson else None
        ),
        reading=reading._replace(max_undecodable=options.max_bad),
        **common,
    )
    return training, ImageBatches(setup.validation, reading=reading, **common)


def training_variation(options, augmented=True):
    """The `data_gen_label.Variation` that options ask for.

    Args:
        options: of a mode that makes training batches.
        augmented: bool; if False, only the labels are smoothed.
    """
    from data_gen_label import Variation

    variation = Variation(label_smoothing=options.label_smoothing, seed=options.seed)
    if not augmented:
        return variation
    return variation._replace(
        sampler=options.sampler,
        augmentation=_from_options(Augmentation, options),
        mixing=_from_options(Mixing, options),
    )


def _from_options(settings_type, options):
    """A NamedTuple whose fields are named like options."""
    return settings_type(*(getattr(options, name) for name in settings_type._fields))
