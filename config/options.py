"""Every option of every mode: name, default, unit, allowed values, help. Nothing but the table."""

import collections

from common.cpu import usable
from config.value_types import (
    ADDRESS,
    BACKBONE,
    COLOR,
    DEVICES,
    FOLDER,
    FORMATS,
    HOST,
    NORMALIZATION,
    PATH,
    QUANTIZE,
    RUN,
    RUN_NAME,
    SCORE_NAME,
    SHARES,
    WEIGHTS,
    YES_NO,
    choice,
    number,
    whole,
)
from modeling import backbones

BACKBONES = tuple(backbones.TABLE)
OPTIMIZERS = ("adamw", "adam", "sgd", "rmsprop", "lion", "muon", "nadam", "lamb", "adafactor")
FOCAL_GAMMA = 2.0  # the paper's best, Lin et al. 2017, section 5.1
RESIZES = ("letterbox", "crop", "stretch")


class Option(collections.namedtuple("Option", "name kind default help group shown many")):
    """One option. `shown` is the default in words, `many` takes several values."""


OPTIONS = {}


def _option(name, kind, default, help, group, shown=None, many=False):
    OPTIONS[name] = Option(name, kind, default, help, group, shown, many)


_option(
    "train_data",
    FOLDER,
    "../datasets/train_datasets",
    "training images, each with a text file of the same stem",
    "Data",
)
_option(
    "val_data",
    FOLDER,
    None,
    "validation images, in the same format",
    "Data",
    "../datasets/val_datasets beside the default --train_data, else a part of the training data",
)
_option(
    "val_fraction",
    number(0, 0.5, above=True),
    0.1,
    "share of the training images held out for validation when there is no --val_data",
    "Data",
)
_option("data", FOLDER, None, "labelled images, each with a text file of the same stem", "Data")
_option(
    "labels",
    PATH,
    None,
    "JSON file with the class names",
    "Data",
    "label.json in the data folder, else the project's",
)
_option(
    "max_bad",
    number(0, 1),
    0.01,
    "share of the images that may be undecodable before training refuses",
    "Data",
)
_option(
    "workers",
    whole(1, 256),
    min(16, usable()),
    "threads that decode images",
    "Data",
    "the processor's cores, at most 16",
)
_option("source", FOLDER, None, "a folder with one folder of images a class", "Data")
_option("target", FOLDER, None, "the folder to make", "Data")
_option(
    "how",
    choice("copy", "link", "move"),
    "copy",
    "how files get to the target: copied, as further names of the same file, or moved",
    "Data",
)
_option(
    "split",
    SHARES,
    None,
    "shares of training, validation and test data, made as train_datasets, val_datasets and "
    "test_datasets below the target",
    "Data",
    "all in one folder",
)
_option("dry_run", YES_NO, False, "only say what would be done", "Data")
_option(
    "near_duplicates",
    YES_NO,
    True,
    "also look for pictures that show the same in another size, format or quality",
    "Data",
)
_option("delete", YES_NO, False, "delete the files for good instead of moving them", "Data")
_option("undo", PATH, None, "the manifest of a quarantine whose files to bring back", "Data")
_option(
    "original",
    YES_NO,
    False,
    "count the pixels of the files as they are, not those of the model's input",
    "Data",
)
_option(
    "image",
    PATH,
    None,
    "image files, folders of images, or patterns such as 'photos/*.jpg'",
    "Data",
    many=True,
)

_option(
    "backbone",
    BACKBONE,
    "EfficientNetB0",
    "network that turns images to features; --mode backbones lists them, hub:PRESET is KerasHub's",
    "Model",
)
_option(
    "weights",
    WEIGHTS,
    "imagenet",
    "start of training: ImageNet's weights, none (from scratch), or a weights file",
    "Model",
)
_option(
    "input_size",
    whole(32, 4096),
    None,
    "side of the square input, in pixels",
    "Model",
    "the backbone's own, 224 for EfficientNetB0",
)
_option(
    "resize",
    choice(*RESIZES),
    "letterbox",
    "how an image becomes square: fitted with bars, cut, or distorted",
    "Model",
)
_option(
    "fill_color",
    COLOR,
    (255, 255, 255),
    "colour of the bars and behind transparent pixels",
    "Model",
)
_option(
    "dropout",
    number(0, 1, below=True),
    None,
    "share of features dropped before the head",
    "Model",
    "the backbone's own, 0.2 for EfficientNetB0",
)
_option(
    "drop_connect",
    number(0, 1, below=True),
    0.2,
    "stochastic depth: chance that the last block is skipped in a step",
    "Model",
)

_option(
    "normalize",
    NORMALIZATION,
    None,
    "scale the input by a mean and deviation of your own",
    "Model",
    "the backbone's own scaling",
)
_option("attention", choice("none", "cbam"), "none", "attention after the backbone", "Model")
_option(
    "block_attention",
    choice("se", "cbam", "none"),
    "se",
    "attention inside the blocks of an EfficientNet",
    "Model",
)
_option(
    "pooling",
    choice("avg", "max", "gem", "bilinear", "compact_bilinear"),
    "avg",
    "how a feature map becomes one row of features",
    "Model",
)
_option(
    "bilinear_dim",
    whole(1, 65536),
    None,
    "channels that a 1x1 convolution leaves for --pooling bilinear",
    "Model",
    "all",
)
_option(
    "norm",
    choice("batch", "group"),
    "batch",
    "normalisation of the backbone; group does not depend on --batch_size",
    "Model",
)

_option("batch_size", whole(1, 65536), 16, "images a step, over all devices", "Training")
_option("epochs", whole(1, 100000), 30, "passes over the training data", "Training")
_option(
    "learning_rate",
    number(0, 10, above=True),
    None,
    "highest learning rate",
    "Training",
    "5e-4 from pretrained weights; from scratch 1e-3 for each 16 of --batch_size, at most "
    "4e-3; 1e-2 with sgd",
)
_option("optimizer", choice(*OPTIMIZERS), "adamw", "what turns gradients to steps", "Training")
_option(
    "weight_decay",
    number(0, 1),
    0.01,
    "decoupled weight decay of adamw and sgd, not on biases and norms",
    "Training",
)
_option(
    "warmup_epochs",
    number(0, 100000),
    None,
    "epochs of linear warm-up before the cosine; fractions are allowed",
    "Training",
    "a tenth of --epochs, at most 3",
)
_option(
    "label_smoothing",
    number(0, 1, below=True),
    0.1,
    "share of each label spread evenly over all classes",
    "Training",
)
_option(
    "loss",
    choice("cross_entropy", "focal"),
    "cross_entropy",
    "what training makes small; focal weighs hard images more",
    "Training",
)
_option("focal_gamma", number(0, 10), FOCAL_GAMMA, "how much more; 0 is cross_entropy", "Training")
_option(
    "class_weights",
    choice("none", "balanced", "effective_number"),
    "none",
    "weigh rare classes more in the loss",
    "Training",
)
_option(
    "sampler",
    choice("uniform", "balanced"),
    "uniform",
    "balanced draws as many images of each class, rare ones again and again",
    "Training",
)
_option(
    "freeze_epochs",
    whole(0, 100000),
    0,
    "first epochs, of --epochs, that train only what follows the backbone, at ten times the "
    "learning rate",
    "Training",
)
_option(
    "cache_features",
    YES_NO,
    False,
    "compute the frozen backbone's features once; needs --freeze_epochs, and switches "
    "augmentation off",
    "Training",
)
_option(
    "layer_decay",
    number(0, 1, above=True),
    1.0,
    "factor on the learning rate from one twelfth of the backbone to the one before it",
    "Training",
)
_option(
    "clipnorm",
    number(0, 10000),
    0.0,
    "largest norm of all gradients together; 0 is off",
    "Training",
)
_option("accumulate", whole(1, 65536), 1, "steps whose gradients make one update", "Training")
_option(
    "ema",
    number(0, 1, below=True),
    0.0,
    "momentum of the moving average of the weights that is validated and kept; 0 is off",
    "Training",
)
_option(
    "mixed_precision",
    choice("auto", "float32", "bfloat16", "float16"),
    "auto",
    "what the layers compute in; auto is float32 on a processor, bfloat16 or float16 on a GPU",
    "Training",
)
_option(
    "jit",
    choice("auto", "on", "off"),
    "auto",
    "compile the step with XLA; auto does so on a GPU only",
    "Training",
)
_option(
    "scale_lr",
    choice("none", "linear"),
    "none",
    "linear: the learning rate is that for 16 images a step, and grows with --batch_size",
    "Training",
)
_option(
    "patience",
    whole(0, 100000),
    0,
    "epochs without a better validation score before training stops, after those of "
    "--freeze_epochs; 0 never stops early",
    "Training",
)
_option("seed", whole(0, 2**31 - 1), 0, "start of every random number", "Training")

_option("horizontal_flip", YES_NO, True, "mirror half of the images left to right", "Augmentation")
_option("vertical_flip", YES_NO, False, "mirror half of the images top to bottom", "Augmentation")
_option(
    "shift",
    number(0, 0.5),
    0.1,
    "largest shift either way, as a share of the side; 0 is off",
    "Augmentation",
)
_option(
    "rotation",
    number(0, 180),
    10.0,
    "largest rotation either way, in degrees; 0 is off",
    "Augmentation",
)
_option(
    "zoom", number(0, 0.9), 0.1, "largest scaling either way, as a share; 0 is off", "Augmentation"
)
_option(
    "random_eraser",
    number(0, 1),
    0.25,
    "chance that a random rectangle of an image is replaced by noise; 0 is off",
    "Augmentation",
)

_option(
    "mixup",
    number(0, 10),
    0.0,
    "alpha of the Beta distribution that images of a batch are blended by; 0 is off",
    "Augmentation",
)
_option(
    "cutmix",
    number(0, 10),
    0.0,
    "alpha of the Beta distribution of the area pasted from another image; 0 is off",
    "Augmentation",
)
_option(
    "randaugment",
    number(0, 1),
    0.0,
    "strength of RandAugment's two operations; 0 is off",
    "Augmentation",
)
_option("augmix", number(0, 1), 0.0, "strength of AugMix's three chains; 0 is off", "Augmentation")

_option("multigpu", YES_NO, False, "use all GPUs of this machine, or those of --devices", "Devices")
_option(
    "devices",
    DEVICES,
    None,
    "the devices to compute on, together",
    "Devices",
    "one GPU, else the processor; all with --multigpu",
)
_option(
    "sync_batchnorm",
    YES_NO,
    None,
    "batch normalisation takes the statistics of the whole batch, not of each device's part",
    "Devices",
    "yes below 8 images a device; always with --backend jax",
)
_option(
    "backend",
    choice("tensorflow", "jax"),
    "tensorflow",
    "what Keras computes with; several processes need jax",
    "Devices",
)
_option(
    "coordinator",
    ADDRESS,
    None,
    "where process 0 of several listens; Slurm, Open MPI and Kubernetes tell it by themselves",
    "Devices",
)
_option("num_processes", whole(2, 65536), None, "how many processes train together", "Devices")
_option("process_id", whole(0, 65535), None, "which of them this is, from 0", "Devices")

_option("run", RUN, None, "the run, or an exported model", "Run")
_option(
    "runs",
    RUN,
    None,
    "two runs or exported models, the second measured against the first",
    "Run",
    many=True,
)
_option(
    "format",
    FORMATS,
    ("savedmodel", "onnx", "openvino"),
    "what the exported model can be computed by: TensorFlow, ONNX Runtime, OpenVINO, LiteRT",
    "Run",
)
_option(
    "quantize",
    QUANTIZE,
    ("none",),
    "bits of the weights: none (32), fp16 (16), int8 (8, with "
    "ranges from training images), bf16 (32, and OpenVINO has to prove itself in bfloat16); "
    "several are kept side by side",
    "Run",
)
_option(
    "min_agreement",
    number(0, 1),
    0.995,
    "least share of images with the same answer for what has fewer bits; below it bfloat16 "
    "that was not asked for is left out, and nothing else published",
    "Run",
)
_option(
    "max_drop", number(0, 1), 0.01, "accuracy that fewer bits may lose, on validation images", "Run"
)
_option(
    "runtime",
    choice("auto", "openvino", "onnx", "litert", "savedmodel"),
    "auto",
    "what computes an exported model; auto takes the fastest, the others the fullest precision",
    "Model",
)
_option("save_dir", FOLDER, "save_h5_model", "where runs are kept", "Run")
_option("log_dir", FOLDER, "log_file", "where TensorBoard files are kept", "Run")
_option("overwrite", YES_NO, False, "replace a run of the same name", "Run")
_option(
    "resume",
    RUN,
    None,
    "go on with this run from where it stopped, with the options it was started with; "
    "--epochs may be more",
    "Run",
)
_option(
    "force", YES_NO, False, "let --resume go on with other options than it was started with", "Run"
)
_option(
    "checkpoint_minutes",
    number(0, 10000),
    10.0,
    "a checkpoint is written after each epoch, and in between after so many minutes; 0 is "
    "never in between",
    "Run",
)
_option(
    "keep",
    whole(1, 1000),
    1,
    "epochs whose weights are kept, the best ones; from 2 on in the run's folder best/",
    "Run",
)
_option(
    "nan_policy",
    choice("stop", "restore"),
    "stop",
    "where the loss is no longer a number: stop, or go back to the last checkpoint and on at "
    "half the learning rate, three times at most",
    "Training",
)
_option(
    "data_time_limit",
    number(0, 100000),
    300.0,
    "seconds that reading a batch may take before training stops and names the file; 0 is no limit",
    "Data",
)

_option(
    "tta",
    choice("none", "flip", "five_crop"),
    "none",
    "average over views of each image: it and its mirror image, or its four corners and its centre",
    "Model",
)
_option(
    "top_k",
    whole(1, 10000),
    None,
    "how many of the likeliest classes count",
    "Output",
    "5, or all where there are fewer",
)
_option("csv", PATH, None, "also write a CSV with one row an image to this file", "Output")
_option(
    "precision",
    number(0, 1, above=True, below=True),
    0.95,
    "share of right answers wanted among those that are not called unknown",
    "Output",
)
_option(
    "record",
    SCORE_NAME,
    None,
    "add the scores to the run's metrics.json, each as NAME_ and its name",
    "Output",
)
_option(
    "json", YES_NO, False, "print one line of JSON on standard output, nothing else there", "Output"
)

_option("model", RUN, None, "the exported model, or the run that has one", "Run")

_option(
    "host",
    HOST,
    "127.0.0.1",
    "address to listen on; another than this machine's own needs --token_file or --no_auth",
    "Server",
)
_option("port", whole(0, 65535), 5001, "port to listen on; 0 takes a free one", "Server")
_option(
    "token_file",
    PATH,
    None,
    "file with the token that each request has to bring as `Authorization: Bearer TOKEN`",
    "Server",
)
_option("no_auth", YES_NO, False, "serve whoever reaches the address, without a token", "Server")
_option(
    "max_batch",
    whole(1, 1024),
    16,
    "waiting images that go through the model together, at most",
    "Server",
)
_option(
    "max_wait_ms",
    number(0, 1000),
    0.0,
    "how long an image waits for others to join it while the model is free, in milliseconds",
    "Server",
)
_option(
    "max_queue",
    whole(1, 100000),
    128,
    "images that may wait; more are told to come again (503)",
    "Server",
)
_option(
    "time_limit",
    number(0, 3600, above=True),
    10.0,
    "seconds after which a request that still waits is given up (504)",
    "Server",
)
_option(
    "max_megabytes",
    number(0, 1024, above=True),
    10.0,
    "largest body of a request, in 10^6 bytes",
    "Server",
)
_option(
    "max_megapixels", number(0, 200, above=True), 25.0, "largest image, in 10^6 pixels", "Server"
)
_option("max_images", whole(1, 1024), 16, "images in one request, at most", "Server")
_option(
    "keep_uncertain",
    FOLDER,
    None,
    "folder for images whose likeliest class is below --keep_below, to be labelled later; "
    "nothing is kept without it",
    "Server",
)
_option("keep_below", number(0, 1), 0.5, "probability below which an image is kept", "Server")
_option(
    "keep_megabytes",
    number(0, 100000, above=True),
    500.0,
    "space that kept images may take, in 10^6 bytes; then no more are kept",
    "Server",
)

_option("config", PATH, None, "YAML file with options; the command line goes before it", "General")
_option("debug", YES_NO, False, "show the traceback of an error", "General")


class Mode(collections.namedtuple("Mode", "options changed required words", defaults=(None,))):
    """A mode's options; `changed` replaces fields of some, `required` must be given.

    `words` is the option that takes words standing alone, where there is one.
    """


_COMMON = ("json", "config", "debug")
AUGMENTATION = (
    "horizontal_flip",
    "vertical_flip",
    "shift",
    "rotation",
    "zoom",
    "random_eraser",
    "randaugment",
    "augmix",
    "mixup",
    "cutmix",
)

PROCESS = ("coordinator", "num_processes", "process_id")
# Where a training runs, not what it computes: going on may change them.
PLACE = ("multigpu", "devices", *PROCESS)
# What a training keeps and when it gives up, not what it computes: as free
KEEPING = ("checkpoint_minutes", "keep", "nan_policy", "data_time_limit", "workers")

MODES = {
    "train": Mode(
        (
            "train_data",
            "val_data",
            "val_fraction",
            "labels",
            "max_bad",
            "workers",
            "data_time_limit",
            "backbone",
            "weights",
            "input_size",
            "resize",
            "fill_color",
            "dropout",
            "drop_connect",
            "attention",
            "block_attention",
            "pooling",
            "bilinear_dim",
            "norm",
            "normalize",
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
            "seed",
            *AUGMENTATION,
            "multigpu",
            "devices",
            "sync_batchnorm",
            "backend",
            *PROCESS,
            "run",
            "save_dir",
            "log_dir",
            "overwrite",
            "resume",
            "force",
            "checkpoint_minutes",
            "keep",
            *_COMMON,
        ),
        {
            "run": {
                "kind": RUN_NAME,
                "help": "name of the run to make",
                "shown": "BACKBONE-DATE-TIME",
            }
        },
        (),
    ),
    "eval": Mode(
        (
            "data",
            "workers",
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
        {
            "batch_size": {"default": 32, "help": "images the model takes at once"},
            "csv": {
                "help": "file for the table with one row an image",
                "shown": "eval.csv in the run's folder",
            },
        },
        ("run", "data"),
    ),
    "predict": Mode(
        (
            "image",
            "workers",
            "batch_size",
            "tta",
            "runtime",
            "run",
            "save_dir",
            "top_k",
            "csv",
            *_COMMON,
        ),
        {
            "batch_size": {"default": 32, "help": "images the model takes at once"},
            "top_k": {"shown": "3, or all where there are fewer"},
        },
        ("run", "image"),
    ),
    "save_pb": Mode(
        ("run", "save_dir", "multigpu", *_COMMON),
        {
            "run": {"help": "the run to export"},
            "multigpu": {
                "help": "of a run that several devices trained: proves in a process of its "
                "own, which sees one device, that the model is the same there"
            },
        },
        ("run",),
    ),
    "export": Mode(
        ("run", "save_dir", "format", "quantize", "min_agreement", "max_drop", *_COMMON),
        {"run": {"help": "the run to export"}},
        ("run",),
    ),
    "backbones": Mode(_COMMON, {}, ()),
    "fetch_weights": Mode(
        ("backbone", *_COMMON),
        {"backbone": {"help": "backbone whose ImageNet weights to bring"}},
        (),
    ),
    "preview": Mode(
        (
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
        {
            "input_size": {"default": 224, "shown": None},
            "target": {"kind": PATH, "default": "preview.png", "help": "the PNG to write"},
        },
        (),
    ),
    "dir2txt": Mode(
        ("source", "target", "how", "split", "workers", "dry_run", *_COMMON),
        {},
        ("source", "target"),
    ),
    "txt2dir": Mode(
        ("source", "labels", "target", "how", "csv", "dry_run", *_COMMON),
        {
            "source": {"help": "labelled images, each with a text file of the same stem"},
            "csv": {
                "help": "CSV with the columns path and label, read instead of --source, or, "
                "where there is a --source, written instead of the folders"
            },
        },
        (),
    ),
    "mean_std": Mode(
        ("source", "input_size", "resize", "fill_color", "original", "workers", "target", *_COMMON),
        {
            "source": {"help": "folder of images, with or without text files"},
            "input_size": {"default": 224, "shown": None},
            "target": {"kind": PATH, "default": "mean_std.json", "help": "the JSON file to write"},
        },
        ("source",),
    ),
    "statistics": Mode(
        ("source", "val_data", "labels", "workers", "target", *_COMMON),
        {
            "source": {"help": "labelled images, each with a text file of the same stem"},
            "val_data": {"shown": None, "help": "validation images to show beside them"},
            "target": {"default": "statistics", "help": "the folder for charts and table"},
        },
        ("source",),
    ),
    "confusion_matrix": Mode(
        ("data", "workers", "batch_size", "run", "save_dir", "target", *_COMMON),
        {
            "data": {
                "help": "labelled images to evaluate",
                "shown": "the run's eval.csv, which --mode eval has left",
            },
            "batch_size": {"default": 32, "help": "images the model takes at once"},
            "target": {
                "help": "the folder for matrices and pairs",
                "shown": "confusion_matrix in the run's folder",
            },
        },
        ("run",),
    ),
    "audit": Mode(
        ("source", "val_data", "labels", "near_duplicates", "workers", "target", *_COMMON),
        {
            "source": {"help": "images with text files, or a folder with one folder a class"},
            "val_data": {
                "shown": None,
                "help": "validation images, to find those that training has too",
            },
            "target": {"default": "audit", "help": "the folder for the page and the table"},
        },
        ("source",),
    ),
    "clean": Mode(
        ("csv", "target", "delete", "undo", "dry_run", *_COMMON),
        {
            "csv": {"help": "findings.csv of --mode audit, with the action of each row"},
            "target": {"default": "quarantine", "help": "the folder to move files to"},
        },
        (),
    ),
    "report": Mode(
        ("data", "workers", "batch_size", "run", "save_dir", "target", *_COMMON),
        {
            "batch_size": {"default": 32, "help": "images the model takes at once"},
            "target": {
                "kind": PATH,
                "help": "the HTML file to write, and a CSV beside it",
                "shown": "report.html in the run's folder",
            },
        },
        ("run", "data"),
    ),
    "relabel": Mode(
        ("run", "save_dir", "csv", "dry_run", *_COMMON),
        {"csv": {"help": "the report's CSV with new_label filled in, or an undo file"}},
        ("run", "csv"),
    ),
    "compare": Mode(
        ("runs", "data", "workers", "batch_size", "save_dir", *_COMMON),
        {"batch_size": {"default": 32, "help": "images the model takes at once"}},
        ("runs", "data"),
        "runs",
    ),
    "calibrate": Mode(
        ("run", "data", "precision", "workers", "batch_size", "save_dir", "dry_run", *_COMMON),
        {
            "data": {"help": "labelled images that training has not seen"},
            "batch_size": {"default": 32, "help": "images the model takes at once"},
        },
        ("run", "data"),
    ),
    "benchmark": Mode(
        ("model", "data", "workers", "batch_size", "save_dir", "target", *_COMMON),
        {
            "data": {"help": "labelled images to measure the accuracy on"},
            "batch_size": {"default": 32, "help": "largest batch to try"},
            "target": {"default": "benchmark", "help": "the folder for table and chart"},
        },
        ("model",),
    ),
    "serve": Mode(
        (
            "model",
            "runtime",
            "save_dir",
            "top_k",
            "host",
            "port",
            "token_file",
            "no_auth",
            "workers",
            "max_batch",
            "max_wait_ms",
            "max_queue",
            "time_limit",
            "max_megabytes",
            "max_megapixels",
            "max_images",
            "keep_uncertain",
            "keep_below",
            "keep_megabytes",
            *_COMMON,
        ),
        {
            "workers": {
                "default": 1,
                "shown": None,
                "group": "Server",
                "help": "processes that serve, each with a model of its own",
            },
            "top_k": {
                "help": "classes an answer names, unless the request says",
                "shown": "3, or all where there are fewer",
            },
        },
        ("model",),
    ),
    "doctor": Mode(("save_dir", "log_dir", *_COMMON), {}, ()),
    "demo_data": Mode(
        ("target", "seed", *_COMMON),
        {
            "target": {"default": "datasets/digits"},
            "seed": {"help": "which images become training, validation and test data"},
        },
        (),
    ),
}
