"""The table of modes: what `run.py --mode` can do, and which options each mode has."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from config.option_table import OPTIONS
from config.run_options import NAMES_OF_A_RUN
from config.training_options import AUGMENTATION_OPTIONS
from config.value_types import IMAGE_DATA, PATH, RUN_NAME, whole


@dataclasses.dataclass(frozen=True)
class Mode:
    """A mode of `run.py`.

    Attributes:
        module: str, the module whose `main(options)` runs the mode.
        summary: str, what the mode does, as `run.py --help` prints it.
        options: tuple of str, the names of its options, in the order of `--help`.
        overrides: dict of option name -> dict of the attributes of `Option` that differ here.
        required: tuple of str, the options without which the mode does not run.
        positional: str, the option that takes arguments without `--NAME` before them, or None.
        distributed_module: str, the module that takes the place of `module` for several
            devices or processes, or None.
        hidden: bool, whether lists of the modes leave it out: an old name that still works.

    Example:
        >>> MODES["predict"].module
        'inference'
    """

    module: str
    summary: str
    options: tuple[str, ...]
    overrides: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    required: tuple[str, ...] = ()
    positional: str | None = None
    distributed_module: str | None = None
    hidden: bool = False


_COMMON = ("json", "config", "debug")
AUGMENTATION = tuple(option.name for option in AUGMENTATION_OPTIONS)
# They belong together: which process of several this is
PROCESS_OPTIONS = ("coordinator", "num_processes", "process_id")
# What several modes say in the same words
_BATCH_OF_MODEL = {"default": 32, "help": "images that the model computes at once"}
_LABELLED_SOURCE = {
    "type": IMAGE_DATA,
    "help": "labelled images: a folder with one subfolder per class, or of images with label "
    "files, or a CSV with the columns path and label",
}
_SLICES = {
    "default_text": "no slices",
    "help": "what photos have in common, to see in which of these groups the model is worse: the "
    "folder below that of their class, the EXIF date or camera, what a pattern finds in their "
    "paths (its first group), or a column of the CSV or of groups.csv in the folder",
}
_PHOTOS = {
    "type": IMAGE_DATA,
    "help": "photos: a folder with all folders in it, or a CSV with the columns path and label",
}
# For photos that come from object stores
_CACHE = ("cache_dir", "cache_gigabytes")
# What a training learns from its photos, and how
_LEARNING = (
    "val_fraction",
    "group",
    "labels",
    "max_bad",
    "workers",
    "data_time_limit",
    *_CACHE,
    "backbone",
    "weights",
    "weights_url",
    "input_size",
    "resize",
    "fill_color",
    "dropout",
    "drop_connect",
    "attention",
    "block_attention",
    "pooling",
    "bilinear_dim",
    "head",
    "neighbour_count",
    "norm",
    "normalize",
    "recipe",
    "minutes",
    "batch_size",
    "epochs",
    "learning_rate",
    "optimizer",
    "weight_decay",
    "warmup_epochs",
    "label_smoothing",
    "loss",
    "focal_gamma",
    "class_weights",
    "sampler",
    "nan_policy",
    "linear_head",
    "freeze_batchnorm",
    "freeze_epochs",
    "cache_features",
    "layer_decay",
    "clipnorm",
    "accumulate",
    "ema",
    "mixed_precision",
    "jit",
    "scale_lr",
    "patience",
    "select",
    "soup",
    "seed",
    *AUGMENTATION,
)
# Which network computes features, and how
_FEATURES = (*("backbone", "weights", "input_size", "run", "save_dir", "batch_size", "workers"),)
_FEATURE_OVERRIDES = {
    "batch_size": _BATCH_OF_MODEL,
    "run": {
        "help": "run whose network computes the features",
        "default": None,
        "default_text": "--backbone",
    },
}
_WITHOUT_BACKBONE = {"default": 224, "default_text": ""}

MODES = {
    "train": Mode(
        module="train",
        distributed_module="multigpu_train",
        summary="train a classifier on labelled images",
        options=(
            "data",
            "train_data",
            "val_data",
            "unlabelled",
            "teacher",
            *_LEARNING,
            "multigpu",
            "devices",
            "sync_batchnorm",
            "backend",
            *PROCESS_OPTIONS,
            "run",
            "save_dir",
            "log_dir",
            "overwrite",
            "resume",
            "force",
            "checkpoint_minutes",
            "keep",
            "track",
            *_COMMON,
        ),
        overrides={
            "run": {
                "type": RUN_NAME,
                "help": "name of the new run",
                "default": None,
                "default_text": "BACKBONE-DATE-TIME",
            },
            "data": {
                "help": "labelled images whose splits.csv says which train and which validate; it "
                "is made where there is none. In place of --train_data and --val_data"
            },
        },
    ),
    "eval": Mode(
        module="eval",
        summary="evaluate a run or an exported model on labelled images",
        options=(
            "data",
            "part",
            "workers",
            *_CACHE,
            "batch_size",
            "tta",
            "runtime",
            "multigpu",
            "devices",
            "run",
            "save_dir",
            "top_k",
            "csv",
            "record",
            *_COMMON,
        ),
        overrides={
            "batch_size": _BATCH_OF_MODEL,
            "top_k": {"help": "k of the top-k accuracy"},
            "csv": {
                "help": "CSV file to write, with one row per image",
                "default_text": "eval.csv in the folder of the run",
            },
        },
        required=("data",),
    ),
    "predict": Mode(
        module="inference",
        summary="predict the classes of images",
        options=(
            "image",
            "workers",
            "batch_size",
            "tta",
            "runtime",
            "run",
            "save_dir",
            "top_k",
            "csv",
            "strict",
            *_COMMON,
        ),
        overrides={
            "batch_size": _BATCH_OF_MODEL,
            "top_k": {
                "help": "number of most probable classes to show",
                "default_text": "3, or all if there are fewer",
            },
        },
        required=("image",),
    ),
    "save_pb": Mode(
        module="save_model",
        distributed_module="save_multigpu_model",
        summary="export a run as a SavedModel that serves by itself",
        options=("run", "save_dir", "multigpu", *_COMMON),
        overrides={
            "run": {"help": "run to export: " + NAMES_OF_A_RUN},
            "multigpu": {
                "help": "for a run trained on several devices: verify, in a separate process "
                "with one device, that the exported model predicts the same there"
            },
        },
    ),
    "export": Mode(
        module="save_model",
        summary="export a run for TensorFlow, ONNX Runtime and OpenVINO",
        options=(
            "run",
            "save_dir",
            "format",
            "quantize",
            "min_agreement",
            "max_drop",
            "track",
            *_COMMON,
        ),
        overrides={"run": {"help": "run to export: " + NAMES_OF_A_RUN}},
    ),
    "benchmark": Mode(
        module="other.benchmark",
        summary="compare the runtimes of an exported model on this machine",
        options=(
            *("model", "data", "part", "workers", "batch_size", "save_dir", "target"),
            *_COMMON,
        ),
        overrides={
            "data": {"help": "labelled images on which the accuracy is measured"},
            "batch_size": {"default": 32, "help": "largest batch size to measure"},
            "target": {"default": "benchmark", "help": "output folder for the table and the chart"},
        },
    ),
    "serve": Mode(
        module="deployment.server",
        summary="answer requests over HTTP",
        options=(
            "model",
            "runtime",
            "save_dir",
            "top_k",
            "host",
            "port",
            "probe_port",
            "allow_host",
            "cors",
            "token_file",
            "no_auth",
            "workers",
            "max_batch",
            "max_wait_ms",
            "max_queue",
            "time_limit",
            "max_megabytes",
            "memory_megabytes",
            "max_megapixels",
            "max_images",
            "keep_uncertain",
            "keep_below",
            "keep_megabytes",
            "lang",
            *_COMMON,
        ),
        overrides={
            "workers": {
                "default": 1,
                "default_text": "",
                "unit": "processes",
                "group": "Server",
                "help": "number of server processes, each with its own copy of the model",
            },
            "top_k": {
                "help": "number of most probable classes in an answer, if the request does not "
                "say how many",
                "default_text": "3, or all if there are fewer",
            },
        },
    ),
    "backbones": Mode(
        module="other.backbone_table",
        summary="list the backbones: size, cost, weights",
        options=_COMMON,
    ),
    "fetch_weights": Mode(
        module="other.fetch_weights",
        summary="download the ImageNet weights of a backbone",
        options=("backbone", "weights_url", *_COMMON),
        overrides={"backbone": {"help": "backbone whose ImageNet weights are downloaded"}},
    ),
    "add_class": Mode(
        module="other.add_class",
        summary="add a class to a run, or remove one, and keep its network",
        options=(
            *("run", "save_dir", "name", "data", "remove", "new_run", "overwrite", "log_dir"),
            *("batch_size", "workers"),
            *_COMMON,
        ),
        overrides={
            "run": {"help": "run whose network is taken: " + NAMES_OF_A_RUN},
            "data": _PHOTOS,
            "batch_size": _BATCH_OF_MODEL,
        },
        required=("name",),
    ),
    "embed": Mode(
        module="other.embed",
        summary="write the features of photos to a file",
        options=("data", *_FEATURES, *_CACHE, "unit_length", "target", *_COMMON),
        overrides={
            "data": _PHOTOS,
            **_FEATURE_OVERRIDES,
            "target": {
                "type": PATH,
                "default": "features.npz",
                "help": "file of features to write (.npz), with a table of the photos beside it; "
                "one that exists is brought up to date",
            },
        },
        required=("data",),
    ),
    "similar": Mode(
        module="other.similar",
        summary="find the photos that look most like others",
        options=("image", "data", "top_k", *_FEATURES, "target", "lang", *_COMMON),
        overrides={
            "data": {
                **_PHOTOS,
                "help": _PHOTOS["help"] + ", or a file of features of --mode embed",
            },
            "top_k": {
                "unit": "photos",
                "help": "number of photos to show for each image",
                "default_text": "10, or all if there are fewer",
            },
            **_FEATURE_OVERRIDES,
            "target": {
                "default": "similar",
                "help": "output folder for the page and the features of --data",
            },
        },
        required=("data", "image"),
    ),
    "preview": Mode(
        module="other.preview",
        summary="draw a batch of training images as the model sees them",
        options=(
            "train_data",
            "labels",
            "workers",
            "input_size",
            "resize",
            "fill_color",
            "batch_size",
            "label_smoothing",
            "sampler",
            "seed",
            *AUGMENTATION,
            "target",
            *_COMMON,
        ),
        overrides={
            "input_size": _WITHOUT_BACKBONE,
            "target": {"type": PATH, "default": "preview.png", "help": "PNG file to write"},
        },
    ),
    "dir2txt": Mode(
        module="other.data_reconstruction_dir2txt",
        summary="convert a folder with one subfolder per class into the sample format",
        options=("source", "target", "how", "split", "group", "workers", "dry_run", *_COMMON),
        overrides={"group": {"default_text": "near copies alone stay together"}},
        required=("source", "target"),
    ),
    "txt2dir": Mode(
        module="other.data_reconstruction_txt2dir",
        summary="convert the sample format into one folder per class, or into a CSV file",
        options=("source", "labels", "target", "how", "csv", "dry_run", *_COMMON),
        overrides={
            "source": {"help": "folder of images, each with a label file (.txt) of the same stem"},
            "csv": {
                "help": "CSV file with the columns path and label: with --source it is written "
                "instead of the folders, without --source it is read"
            },
        },
    ),
    "mean_std": Mode(
        module="other.mean_std",
        summary="compute the mean and standard deviation of the pixels of a folder",
        options=(
            "source",
            "input_size",
            "resize",
            "fill_color",
            "original",
            "workers",
            *_CACHE,
            "target",
            *_COMMON,
        ),
        overrides={
            "source": {
                "type": IMAGE_DATA,
                "help": "images: a folder with all folders in it, or a CSV with the columns path "
                "and label",
            },
            "input_size": _WITHOUT_BACKBONE,
            "target": {"type": PATH, "default": "mean_std.json", "help": "JSON file to write"},
        },
        required=("source",),
    ),
    "statistics": Mode(
        module="other.statistics_visual",
        summary="chart the images per class, their sizes and aspect ratios",
        options=("source", "val_data", "labels", "workers", *_CACHE, "target", *_COMMON),
        overrides={
            "source": _LABELLED_SOURCE,
            "val_data": {"help": "validation images to show beside them", "default_text": ""},
            "target": {
                "default": "statistics",
                "help": "output folder for the charts and the table",
            },
        },
        required=("source",),
    ),
    "confusion_matrix": Mode(
        module="other.confusion_matrix",
        summary="chart which classes are confused with which",
        options=("data", "part", "workers", "batch_size", "run", "save_dir", "target", *_COMMON),
        overrides={
            "data": {
                "help": "labelled images to evaluate",
                "default_text": "eval.csv of the run, which --mode eval has written",
            },
            "batch_size": _BATCH_OF_MODEL,
            "target": {
                "help": "output folder for the matrices and the confused pairs",
                "default_text": "confusion_matrix in the folder of the run",
            },
        },
    ),
    "split": Mode(
        module="other.split",
        summary="assign photos to training, validation and test; they stay where they are",
        options=("data", "shares", "group", "workers", "dry_run", *_COMMON),
        overrides={"data": _LABELLED_SOURCE},
        required=("data",),
    ),
    "pack": Mode(
        module="other.pack",
        summary="pack photos into tar files with an index, for millions of them",
        options=(
            *("data", "target", "shard_megabytes", "pack_size", "seed", "labels", "workers"),
            *_COMMON,
        ),
        overrides={
            "data": _LABELLED_SOURCE,
            "target": {"help": "folder of the tar files; photos that it lacks are added"},
            "seed": {"help": "seed of the order of the photos in the tar files"},
        },
        required=("data", "target"),
    ),
    "unpack": Mode(
        module="other.unpack",
        summary="give packed photos back as files",
        options=("data", "target", *_COMMON),
        overrides={
            "data": {
                "type": IMAGE_DATA,
                "help": "packed photos: the folder that --mode pack has made, or one of tar files "
                "in WebDataset's convention",
            }
        },
        required=("data", "target"),
    ),
    "add": Mode(
        module="other.add_photos",
        summary="add photos to a data set; its own photos stay as they are",
        options=("data", "source", "how", "workers", "dry_run", *_COMMON),
        overrides={
            "data": {
                **_LABELLED_SOURCE,
                "help": _LABELLED_SOURCE["help"].replace("labelled images", "data set to add to"),
            },
            "source": {
                "type": IMAGE_DATA,
                "help": "new photos, in any layout of --data; or a folder of photos without "
                "labels, for example that of serve --keep_uncertain",
            },
            "how": {
                "help": "how photos get to --data: copied, hard-linked (a second name of the same "
                "file) or moved"
            },
        },
        required=("data", "source"),
    ),
    "audit": Mode(
        module="other.data_del",
        summary="find broken files, wrong labels, duplicates and leaks",
        options=(
            "source",
            "val_data",
            "labels",
            "near_duplicates",
            "group",
            "workers",
            *_CACHE,
            "target",
            "lang",
            *_COMMON,
        ),
        overrides={
            "source": _LABELLED_SOURCE,
            "val_data": {
                "help": "validation images, to find those that are training images too",
                "default_text": "",
            },
            "target": {"default": "audit", "help": "output folder for the page and the table"},
        },
        required=("source",),
    ),
    "clean": Mode(
        module="other.quarantine",
        summary="move the files found by the audit out of the way, or back",
        options=("csv", "target", "delete", "undo", "dry_run", *_COMMON),
        overrides={
            "csv": {"help": "findings.csv of --mode audit, with an action in each row"},
            "target": {"default": "quarantine", "help": "folder to which files are moved"},
        },
    ),
    "report": Mode(
        module="other.report",
        summary="write a page about a run: scores, errors, doubtful labels",
        options=(
            *("data", "part", "workers", "batch_size", "run", "save_dir", "attributes", "group"),
            *("robustness", "target", "track", "lang"),
            *_COMMON,
        ),
        overrides={
            "batch_size": _BATCH_OF_MODEL,
            "group": _SLICES,
            "target": {
                "type": PATH,
                "help": "HTML file to write, with a CSV file beside it",
                "default_text": "report.html in the folder of the run",
            },
        },
        required=("data",),
    ),
    "label": Mode(
        module="other.label",
        summary="sort photos into classes and correct labels on a page",
        options=(
            *("data", "run", "save_dir", "queue", "csv", "suggest", "backbone", "port", "browser"),
            "lang",
            *_COMMON,
        ),
        overrides={
            "data": {
                "type": IMAGE_DATA,
                "help": "photos, labelled or not: a folder, in any layout that --mode train reads, "
                "of photos alone, or with new ones in _unsorted; or a CSV",
            },
            "run": {
                "default": None,
                "default_text": "--backbone",
                "help": "run whose model suggests classes and whose report says which labels are "
                "doubtful: " + NAMES_OF_A_RUN,
            },
            "csv": {
                "default_text": "report.csv of the run, and audit/findings.csv",
                "help": "table of a report or findings.csv of an audit, whose photos are looked at",
            },
            "backbone": {
                "default": "EfficientNetLite0",
                "default_text": "",
                "help": "pretrained network whose features are compared for suggestions",
            },
            "port": {
                "default": 0,
                "default_text": "a free one",
                "help": "port of 127.0.0.1 that the page is served on",
            },
            "lang": {"default_text": "the language of the browser"},
        },
        required=("data",),
    ),
    "relabel": Mode(
        module="other.relabel",
        summary="correct labels from the table of a report",
        options=("run", "save_dir", "csv", "data", "dry_run", *_COMMON),
        overrides={
            "csv": {
                "help": "CSV file of the report with the column new_label filled in, or an undo "
                "file"
            },
            "data": {
                "default": None,
                "help": "data set whose labels are corrected; needed only for a CSV that names the "
                "classes: class folders and label files say them where the images are",
            },
        },
        required=("csv",),
    ),
    "drift": Mode(
        module="other.drift",
        summary="test whether new photos differ from those that a run was validated with",
        options=("run", "data", "workers", "batch_size", "save_dir", "target", "lang", *_COMMON),
        overrides={
            "run": {"help": "run whose validation photos are compared with: " + NAMES_OF_A_RUN},
            "data": {**_PHOTOS, "help": "new " + _PHOTOS["help"]},
            "batch_size": _BATCH_OF_MODEL,
            "target": {"default": "drift", "help": "output folder for the page and the table"},
        },
        required=("data",),
    ),
    "compare": Mode(
        module="other.compare",
        summary="test whether one run is better than another",
        options=(
            *("runs", "data", "part", "workers", "batch_size", "save_dir", "attributes", "group"),
            *_COMMON,
        ),
        overrides={"batch_size": _BATCH_OF_MODEL, "group": _SLICES},
        required=("runs", "data"),
        positional="runs",
    ),
    "crossval": Mode(
        module="other.crossval",
        summary="measure a training on every photo by models that have not seen it",
        options=(
            *("data", "folds", "seeds", "export"),
            *_LEARNING,
            *("run", "save_dir", "log_dir", "overwrite", "checkpoint_minutes", "track", "lang"),
            *_COMMON,
        ),
        overrides={
            "data": _LABELLED_SOURCE,
            "val_fraction": {
                "help": "fraction of each fold's training images by which a training that has "
                "epochs chooses among them; a solved head needs none"
            },
            "group": {"default_text": "near copies alone stay together"},
            "seed": {"help": "seed of all random numbers, the first of --seeds"},
            "minutes": {"help": "time budget of each fold's training; 0 disables it"},
            "run": {
                "type": RUN_NAME,
                "help": "name of the folds' runs, before -fold-1",
                "default": None,
                "default_text": "name of the data",
            },
            "overwrite": {"help": "replace an earlier cross-validation of the same name"},
        },
        required=("data",),
    ),
    "tune": Mode(
        module="other.tune",
        summary="search settings better than the defaults, and test whether they are",
        options=(
            *("data", "search", "minutes", "trials", "seeds", "storage"),
            *(name for name in _LEARNING if name not in ("val_fraction", "minutes", *_CACHE)),
            *("run", "save_dir", "log_dir", "overwrite", "checkpoint_minutes", "lang"),
            *_COMMON,
        ),
        overrides={
            "data": {
                **_LABELLED_SOURCE,
                "help": _LABELLED_SOURCE["help"]
                + ". Trials learn from its part train and are scored on val; test stays unseen for "
                "the verdict",
            },
            "minutes": {
                "default": None,
                "default_text": "60, or no limit with --trials",
                "help": "time budget of the study: of all its processes, and with the trainings "
                "for the verdict",
            },
            "seeds": {
                "type": whole(3, 100),
                "default": 3,
                "help": "number of trainings of the best settings, and as many of the starting "
                "point, by which the two are compared",
            },
            "seed": {"help": "seed of all random numbers: that of the first trial"},
            "run": {
                "type": RUN_NAME,
                "help": "name of the study, before -tune",
                "default": None,
                "default_text": "name of the data",
            },
            "overwrite": {"help": "replace an earlier study of the same name in --save_dir"},
        },
        required=("data",),
    ),
    "calibrate": Mode(
        module="other.calibrate",
        summary="calibrate the probabilities of a model, and let it answer unknown",
        options=(
            "run",
            "data",
            "part",
            "precision",
            "false_alarms",
            "workers",
            "batch_size",
            "save_dir",
            "dry_run",
            *_COMMON,
        ),
        overrides={
            "data": {"help": "labelled images that training has not seen"},
            "part": {
                "default_text": "val where the data have a splits.csv, so that test stays new; "
                "else all",
                "help": "part of the data to fit on, of those that --mode split assigns",
            },
            "batch_size": _BATCH_OF_MODEL,
        },
        required=("data",),
    ),
    "doctor": Mode(
        module="other.doctor",
        summary="describe this installation on one page, for a bug report",
        options=("full", "save_dir", "log_dir", *_COMMON),
    ),
    "all": Mode(
        module="other.pipeline",
        summary="make a measured, exported model of a folder of photos, in one command",
        options=(
            *("data", "group", "backbone", "weights", "minutes", "workers", "run", "save_dir"),
            *("log_dir", "lang"),
            *_COMMON,
        ),
        overrides={
            "data": _LABELLED_SOURCE,
            "backbone": {"default": "EfficientNetLite0"},
            "run": {
                "type": RUN_NAME,
                "help": "name of the new run",
                "default": None,
                "default_text": "name of the data, with a number if it has learned other photos",
            },
        },
        required=("data",),
    ),
    "demo": Mode(
        module="other.demo",
        summary="train, evaluate, export and predict 1,797 handwritten digits",
        options=("target", "epochs", "save_dir", "log_dir", *_COMMON),
        overrides={
            "target": {
                "default": "datasets/digits",
                "help": "folder of the digits, written where it does not exist",
            },
            "epochs": {"default": 24, "default_text": ""},
        },
    ),
    "demo_data": Mode(
        module="other.demo_data",
        summary="write only the digits of --mode demo, in the sample format",
        hidden=True,
        options=("target", "seed", *_COMMON),
        overrides={
            "target": {"default": "datasets/digits"},
            "seed": {"help": "seed of the split into training, validation and test data"},
        },
    ),
}

# As `run.py` lists them: by what one wants to do, and what most people need first
MODES_BY_PURPOSE = {
    "what most people need": ("all", "train", "eval", "predict", "serve"),
    "look at data, and put them right": (
        *("label", "audit", "clean", "add", "split", "statistics", "preview", "mean_std", "embed"),
        *("similar", "pack", "unpack", "dir2txt", "txt2dir"),
    ),
    "train": ("tune", "add_class", "backbones", "fetch_weights"),
    "measure and understand": (
        *("report", "relabel", "crossval", "calibrate", "compare", "confusion_matrix", "drift"),
    ),
    "deliver": ("export", "save_pb", "benchmark"),
    "keep it running": ("doctor", "demo"),
}


def mode_options(mode):
    """The options of a mode.

    Args:
        mode: str, a key of `MODES`.

    Returns:
        list of `Option`, with what this mode overrides.
    """
    overrides = MODES[mode].overrides
    return [
        dataclasses.replace(OPTIONS[name], **overrides.get(name, {}))
        for name in MODES[mode].options
    ]


def saved_options(mode="train"):
    """The options that a run keeps in its options.yaml.

    Args:
        mode: str, a key of `MODES`.

    Returns:
        frozenset of str, names of options.
    """
    return frozenset(option.name for option in mode_options(mode) if option.saved)


def resumable_options(mode="train"):
    """The options that may differ from those of the run that `--resume` names.

    `--epochs` is not one of them: it may only grow.

    Args:
        mode: str, a key of `MODES`.

    Returns:
        frozenset of str, names of options.
    """
    return frozenset(option.name for option in mode_options(mode) if option.resumable)
