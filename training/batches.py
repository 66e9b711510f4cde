"""The training's and the validation's batches, from a run's options."""

from common.console import say
from data.augmentation import Augmentation
from data.mixing import Mixing
from runs import run_folder


def make_batches(job, sharding, augmented=True):
    """(training, validation) batches of a job, two `ImageBatches`, for the devices of `sharding`.

    Without augmentation the training's are in the samples' order, too.
    """
    from data_gen_label import ImageBatches

    options = job.options
    common = {
        "classes": len(job.class_names),
        "batch_size": options.batch_size,
        "preprocessing": run_folder.preprocessing(options),
        "seed": options.seed,
        "sharding": sharding,
        "workers": options.workers,
        "time_limit": options.data_time_limit,
        "report": say,
    }
    changed = {
        "shuffle": True,
        "sampler": options.sampler,
        "augmentation": _chosen(Augmentation, options),
        "mixing": _chosen(Mixing, options),
    }
    training = ImageBatches(
        job.training,
        label_smoothing=options.label_smoothing,
        max_bad=options.max_bad,
        **(changed if augmented else {}),
        **common,
    )
    return training, ImageBatches(job.validation, **common)


def _chosen(kind, options):
    return kind(*(getattr(options, name) for name in kind._fields))
