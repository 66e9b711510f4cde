"""The table of options: every option that `run.py` knows, described once.

Each is an `Option`. `config/modes.py` says which mode has which options and what a mode changes
about them; `config/mode_options.py` has the values of a mode as a class.
"""

import dataclasses
from typing import Any

from common.cpu import usable_cores
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
    SCORE_NAME,
    SPLIT,
    WEIGHTS,
    YES_NO,
    OptionType,
    choice,
    number,
    whole,
)

FOCAL_GAMMA = 2.0  # the best value in the paper: Lin et al. 2017, section 5.1


@dataclasses.dataclass(frozen=True)
class Option:
    """An option of the command line and of YAML files.

    Attributes:
        name: str, as users type it after `--`.
        type: `OptionType`: how text becomes a value, and what is allowed.
        default: the value without the option; None where it depends on something else.
        help: str, what the option does, as `--help` prints it.
        group: str, the heading in `--help` under which the option is listed.
        unit: str, of a number: "epochs", "pixels", "fraction" ...; "" where there is none.
        default_text: str, the default in words where `default` does not say it; else "".
        many: bool, whether the option takes several values; the value is then a tuple.
        saved: bool, whether a run keeps the value in its options.yaml.
        resumable: bool, whether `--resume` accepts another value than that of the run.

    Example:
        >>> OPTIONS["epochs"].default
        30
    """

    name: str
    type: OptionType
    default: Any
    help: str
    group: str
    unit: str = ""
    default_text: str = ""
    many: bool = False
    saved: bool = False
    resumable: bool = False


DATA_OPTIONS = (
    Option(
        name="train_data",
        type=FOLDER,
        default="../datasets/train_datasets",
        help="folder of training images, each with a label file (.txt) of the same stem",
        group="Data",
        saved=True,
    ),
    Option(
        name="val_data",
        type=FOLDER,
        default=None,
        default_text="../datasets/val_datasets, if it exists, with the default --train_data; "
        "else --val_fraction of the training images",
        help="folder of validation images, in the same format",
        group="Data",
        saved=True,
    ),
    Option(
        name="val_fraction",
        type=number(0, 0.5, above=True),
        default=0.1,
        unit="fraction",
        help="fraction of the training images held out for validation if there is no --val_data",
        group="Data",
        saved=True,
    ),
    Option(
        name="data",
        type=FOLDER,
        default=None,
        help="folder of labelled images, each with a label file (.txt) of the same stem",
        group="Data",
    ),
    Option(
        name="labels",
        type=PATH,
        default=None,
        default_text="label.json in the data folder, else the one of this project",
        help="JSON file that maps class ids to class names",
        group="Data",
        saved=True,
    ),
    Option(
        name="max_bad",
        type=number(0, 1),
        default=0.01,
        unit="fraction",
        help="maximum fraction of undecodable images; training fails above it",
        group="Data",
        saved=True,
    ),
    Option(
        name="workers",
        type=whole(1, 256),
        default=min(16, usable_cores()),
        default_text="number of CPU cores, at most 16",
        unit="threads",
        help="number of threads that decode images",
        group="Data",
        saved=True,
        resumable=True,
    ),
    Option(
        name="data_time_limit",
        type=number(0, 100000),
        default=300.0,
        unit="seconds",
        help="maximum time to read a batch before training fails and names the file; 0 sets no "
        "limit",
        group="Data",
        saved=True,
        resumable=True,
    ),
    Option(
        name="source",
        type=FOLDER,
        default=None,
        help="folder with one subfolder of images per class",
        group="Data",
    ),
    Option(name="target", type=FOLDER, default=None, help="output folder", group="Data"),
    Option(
        name="how",
        type=choice("copy", "link", "move"),
        default="copy",
        help="how images get to --target: copied, hard-linked (a second name of the same file) or "
        "moved",
        group="Data",
    ),
    Option(
        name="split",
        type=SPLIT,
        default=None,
        default_text="no split, all images in one folder",
        unit="fractions",
        help="split into training, validation and optional test data: the folders "
        "train_datasets, val_datasets and test_datasets in --target",
        group="Data",
    ),
    Option(
        name="dry_run",
        type=YES_NO,
        default=False,
        help="print what would be done and change nothing",
        group="Data",
    ),
    Option(
        name="near_duplicates",
        type=YES_NO,
        default=True,
        help="also look for near duplicates: the same picture in another size, format or quality",
        group="Data",
    ),
    Option(
        name="delete",
        type=YES_NO,
        default=False,
        help="delete the files permanently instead of moving them",
        group="Data",
    ),
    Option(
        name="undo",
        type=PATH,
        default=None,
        help="manifest of a quarantine folder; moves its files back to where they were",
        group="Data",
    ),
    Option(
        name="original",
        type=YES_NO,
        default=False,
        help="use the pixels of the original files, without resizing them to the model's input",
        group="Data",
    ),
    Option(
        name="image",
        type=PATH,
        default=None,
        many=True,
        help="image files, folders of images, or patterns such as 'photos/*.jpg'",
        group="Data",
    ),
)

MODEL_OPTIONS = (
    Option(
        name="backbone",
        type=BACKBONE,
        default="EfficientNetB0",
        help="network that extracts the image features; --mode backbones lists them, hub:PRESET "
        "takes one from KerasHub",
        group="Model",
        saved=True,
    ),
    Option(
        name="weights",
        type=WEIGHTS,
        default="imagenet",
        help="initial weights: pretrained on ImageNet, random (none), or read from a weights file",
        group="Model",
        saved=True,
    ),
    Option(
        name="input_size",
        type=whole(32, 4096),
        default=None,
        default_text="the usual one of the backbone, 224 for EfficientNetB0",
        unit="pixels",
        help="height and width of the model's input",
        group="Model",
        saved=True,
    ),
    Option(
        name="resize",
        type=choice("letterbox", "crop", "stretch"),
        default="letterbox",
        help="how an image becomes square: padded (letterbox), cropped to its centre, or stretched",
        group="Model",
        saved=True,
    ),
    Option(
        name="fill_color",
        type=COLOR,
        default=(255, 255, 255),
        help="colour of the padding and of transparent pixels",
        group="Model",
        saved=True,
    ),
    Option(
        name="dropout",
        type=number(0, 1, below=True),
        default=None,
        default_text="the usual one of the backbone, 0.2 for EfficientNetB0",
        unit="fraction",
        help="dropout rate of the features before the classification head; 0 disables it",
        group="Model",
        saved=True,
    ),
    Option(
        name="drop_connect",
        type=number(0, 1, below=True),
        default=0.2,
        unit="probability",
        help="stochastic depth: probability of skipping the last block in training, smaller for "
        "earlier blocks; 0 disables it",
        group="Model",
        saved=True,
    ),
    Option(
        name="attention",
        type=choice("none", "cbam"),
        default="none",
        help="attention module after the backbone",
        group="Model",
        saved=True,
    ),
    Option(
        name="block_attention",
        type=choice("se", "cbam", "none"),
        default="se",
        help="attention module inside the blocks of EfficientNetB0 to B7",
        group="Model",
        saved=True,
    ),
    Option(
        name="pooling",
        type=choice("avg", "max", "gem", "bilinear", "compact_bilinear"),
        default="avg",
        help="pooling of the feature map to one feature vector",
        group="Model",
        saved=True,
    ),
    Option(
        name="bilinear_dim",
        type=whole(1, 65536),
        default=None,
        default_text="all channels of the feature map",
        unit="channels",
        help="output channels of the 1x1 convolution before --pooling bilinear",
        group="Model",
        saved=True,
    ),
    Option(
        name="norm",
        type=choice("batch", "group"),
        default="batch",
        help="normalisation layers of the backbone; group normalisation does not depend on "
        "--batch_size",
        group="Model",
        saved=True,
    ),
    Option(
        name="normalize",
        type=NORMALIZATION,
        default=None,
        default_text="the scaling of the backbone",
        help="normalise the input by the mean and standard deviation of your own data",
        group="Model",
        saved=True,
    ),
    Option(
        name="runtime",
        type=choice("auto", "openvino", "onnx", "litert", "savedmodel"),
        default="auto",
        help="runtime that computes an exported model; auto takes the fastest file, a runtime's "
        "name the most precise file of that runtime",
        group="Model",
    ),
    Option(
        name="tta",
        type=choice("none", "flip", "five_crop"),
        default="none",
        help="test-time augmentation: average the predictions for an image and its mirror image "
        "(flip), or for its four corners and its centre (five_crop)",
        group="Model",
    ),
)

TRAINING_OPTIONS = (
    Option(
        name="batch_size",
        type=whole(1, 65536),
        default=16,
        unit="images",
        help="images per step, over all devices",
        group="Training",
        saved=True,
    ),
    Option(
        name="epochs",
        type=whole(1, 100000),
        default=30,
        unit="epochs",
        help="passes over the training data",
        group="Training",
        saved=True,
    ),
    Option(
        name="learning_rate",
        type=number(0, 10, above=True),
        default=None,
        default_text="5e-4 from pretrained weights; from scratch 1e-3 per 16 images of "
        "--batch_size, at most 4e-3; 1e-2 with sgd",
        help="peak learning rate, after the warm-up",
        group="Training",
        saved=True,
    ),
    Option(
        name="optimizer",
        type=choice(
            "adamw", "adam", "sgd", "rmsprop", "lion", "muon", "nadam", "lamb", "adafactor"
        ),
        default="adamw",
        help="optimizer that updates the weights",
        group="Training",
        saved=True,
    ),
    Option(
        name="weight_decay",
        type=number(0, 1),
        default=0.01,
        help="decoupled weight decay of adamw and sgd, except for biases and normalisation "
        "layers; 0 disables it",
        group="Training",
        saved=True,
    ),
    Option(
        name="warmup_epochs",
        type=number(0, 100000),
        default=None,
        default_text="a tenth of --epochs, at most 3",
        unit="epochs",
        help="epochs of linear learning rate warm-up before the cosine decay; fractions are "
        "allowed; 0 disables it",
        group="Training",
        saved=True,
    ),
    Option(
        name="label_smoothing",
        type=number(0, 1, below=True),
        default=0.1,
        unit="fraction",
        help="fraction of each label that is spread evenly over all classes; 0 disables it",
        group="Training",
        saved=True,
    ),
    Option(
        name="loss",
        type=choice("cross_entropy", "focal"),
        default="cross_entropy",
        help="training loss; the focal loss gives more weight to hard images",
        group="Training",
        saved=True,
    ),
    Option(
        name="focal_gamma",
        type=number(0, 10),
        default=FOCAL_GAMMA,
        help="focusing parameter gamma of --loss focal; 0 makes it the cross-entropy",
        group="Training",
        saved=True,
    ),
    Option(
        name="class_weights",
        type=choice("none", "balanced", "effective_number"),
        default="none",
        help="give rare classes more weight in the training loss, by their number of images "
        "(balanced) or by its effective number",
        group="Training",
        saved=True,
    ),
    Option(
        name="sampler",
        type=choice("uniform", "balanced"),
        default="uniform",
        help="balanced draws the same number of images of each class, with repetition of those of "
        "rare classes",
        group="Training",
        saved=True,
    ),
    Option(
        name="nan_policy",
        type=choice("stop", "restore"),
        default="stop",
        help="what to do when the loss is NaN: stop, or restore the last checkpoint and continue "
        "at half the learning rate, three times at most",
        group="Training",
        saved=True,
        resumable=True,
    ),
    Option(
        name="freeze_epochs",
        type=whole(0, 100000),
        default=0,
        unit="epochs",
        help="number of first epochs, out of --epochs, with a frozen backbone and ten times the "
        "learning rate; 0 disables it",
        group="Training",
        saved=True,
    ),
    Option(
        name="cache_features",
        type=YES_NO,
        default=False,
        help="compute the features of the frozen backbone only once; needs --freeze_epochs and "
        "disables augmentation",
        group="Training",
        saved=True,
    ),
    Option(
        name="layer_decay",
        type=number(0, 1, above=True),
        default=1.0,
        help="layer-wise learning rate decay: factor from each twelfth of the backbone to the one "
        "before it; 1 disables it",
        group="Training",
        saved=True,
    ),
    Option(
        name="clipnorm",
        type=number(0, 10000),
        default=0.0,
        help="maximum norm of all gradients together, above which they are scaled down; 0 "
        "disables it",
        group="Training",
        saved=True,
    ),
    Option(
        name="accumulate",
        type=whole(1, 65536),
        default=1,
        unit="steps",
        help="gradient accumulation: steps per update of the weights; 1 disables it",
        group="Training",
        saved=True,
    ),
    Option(
        name="ema",
        type=number(0, 1, below=True),
        default=0.0,
        help="momentum of the exponential moving average of the weights, which is validated and "
        "saved in their place; 0 disables it",
        group="Training",
        saved=True,
    ),
    Option(
        name="mixed_precision",
        type=choice("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="data type in which the layers compute; auto is float32 on the CPU, bfloat16 or "
        "float16 on a GPU",
        group="Training",
        saved=True,
    ),
    Option(
        name="jit",
        type=choice("auto", "on", "off"),
        default="auto",
        help="compile the training step with XLA; auto does so on a GPU only",
        group="Training",
        saved=True,
    ),
    Option(
        name="scale_lr",
        type=choice("none", "linear"),
        default="none",
        help="linear multiplies the learning rate by --batch_size / 16",
        group="Training",
        saved=True,
    ),
    Option(
        name="patience",
        type=whole(0, 100000),
        default=0,
        unit="epochs",
        help="early stopping: number of epochs without a better validation score, counted after "
        "--freeze_epochs; 0 disables it",
        group="Training",
        saved=True,
    ),
    Option(
        name="seed",
        type=whole(0, 2**31 - 1),
        default=0,
        help="seed of all random numbers",
        group="Training",
        saved=True,
    ),
)

AUGMENTATION_OPTIONS = (
    Option(
        name="horizontal_flip",
        type=YES_NO,
        default=True,
        help="mirror images left to right, with probability 0.5",
        group="Augmentation",
        saved=True,
    ),
    Option(
        name="vertical_flip",
        type=YES_NO,
        default=False,
        help="mirror images top to bottom, with probability 0.5",
        group="Augmentation",
        saved=True,
    ),
    Option(
        name="shift",
        type=number(0, 0.5),
        default=0.1,
        unit="fraction",
        help="maximum shift in each direction, relative to the side of the image; 0 disables it",
        group="Augmentation",
        saved=True,
    ),
    Option(
        name="rotation",
        type=number(0, 180),
        default=10.0,
        unit="degrees",
        help="maximum rotation in each direction; 0 disables it",
        group="Augmentation",
        saved=True,
    ),
    Option(
        name="zoom",
        type=number(0, 0.9),
        default=0.1,
        unit="fraction",
        help="maximum enlargement and reduction; 0 disables it",
        group="Augmentation",
        saved=True,
    ),
    Option(
        name="random_eraser",
        type=number(0, 1),
        default=0.25,
        unit="probability",
        help="probability of erasing a random rectangle, which is filled with noise; 0 disables it",
        group="Augmentation",
        saved=True,
    ),
    Option(
        name="randaugment",
        type=number(0, 1),
        default=0.0,
        help="strength of the two operations of RandAugment; 0 disables it",
        group="Augmentation",
        saved=True,
    ),
    Option(
        name="augmix",
        type=number(0, 1),
        default=0.0,
        help="strength of the three chains of operations of AugMix; 0 disables it",
        group="Augmentation",
        saved=True,
    ),
    Option(
        name="mixup",
        type=number(0, 10),
        default=0.0,
        help="MixUp: alpha of the Beta distribution of the weight with which two images are "
        "blended; 0 disables it",
        group="Augmentation",
        saved=True,
    ),
    Option(
        name="cutmix",
        type=number(0, 10),
        default=0.0,
        help="CutMix: alpha of the Beta distribution of the area pasted from another image; 0 "
        "disables it",
        group="Augmentation",
        saved=True,
    ),
)

# Where a training runs is not part of the run: a run may resume elsewhere.
DEVICE_OPTIONS = (
    Option(
        name="multigpu",
        type=YES_NO,
        default=False,
        help="use all GPUs of this machine, or those of --devices",
        group="Devices",
        resumable=True,
    ),
    Option(
        name="devices",
        type=DEVICES,
        default=None,
        default_text="one GPU, else the CPU; all GPUs with --multigpu",
        help="devices that compute together",
        group="Devices",
        resumable=True,
    ),
    Option(
        name="sync_batchnorm",
        type=YES_NO,
        default=None,
        default_text="yes below 8 images per device; always with --backend jax",
        help="compute the batch normalisation statistics over the whole batch instead of over "
        "the part of each device",
        group="Devices",
        saved=True,
    ),
    Option(
        name="backend",
        type=choice("tensorflow", "jax"),
        default="tensorflow",
        help="Keras backend; training in several processes needs jax",
        group="Devices",
        saved=True,
    ),
    Option(
        name="coordinator",
        type=ADDRESS,
        default=None,
        help="address of process 0, where several processes train together; found automatically "
        "under Slurm, Open MPI and Kubernetes",
        group="Devices",
        resumable=True,
    ),
    Option(
        name="num_processes",
        type=whole(2, 65536),
        default=None,
        unit="processes",
        help="number of processes that train together",
        group="Devices",
        resumable=True,
    ),
    Option(
        name="process_id",
        type=whole(0, 65535),
        default=None,
        help="index of this process, counted from 0",
        group="Devices",
        resumable=True,
    ),
)

RUN_OPTIONS = (
    Option(
        name="run", type=RUN, default=None, help="run or exported model", group="Run", saved=True
    ),
    Option(
        name="runs",
        type=RUN,
        default=None,
        many=True,
        help="two runs or exported models: the baseline, then the one to compare with it",
        group="Run",
    ),
    Option(
        name="model",
        type=RUN,
        default=None,
        help="exported model, or a run that has one",
        group="Run",
    ),
    Option(
        name="format",
        type=FORMATS,
        default=("savedmodel", "onnx", "openvino"),
        help="formats to export, for TensorFlow, ONNX Runtime, OpenVINO and LiteRT",
        group="Run",
    ),
    Option(
        name="quantize",
        type=QUANTIZE,
        default=("none",),
        help="precisions to export: float32 (none), float16 (fp16), int8 calibrated on training "
        "images, or float32 weights that OpenVINO may compute in bfloat16 (bf16)",
        group="Run",
    ),
    Option(
        name="min_agreement",
        type=number(0, 1),
        default=0.995,
        unit="fraction",
        help="minimum fraction of images for which a model of lower precision predicts the same "
        "class; below it the export fails, or leaves out bfloat16 that --quantize does not name",
        group="Run",
    ),
    Option(
        name="max_drop",
        type=number(0, 1),
        default=0.01,
        unit="fraction",
        help="maximum loss of validation accuracy of a model of lower precision",
        group="Run",
    ),
    Option(
        name="save_dir",
        type=FOLDER,
        default="save_h5_model",
        help="folder of all runs",
        group="Run",
        saved=True,
        resumable=True,
    ),
    Option(
        name="log_dir",
        type=FOLDER,
        default="log_file",
        help="folder of the TensorBoard logs",
        group="Run",
        saved=True,
    ),
    Option(
        name="overwrite",
        type=YES_NO,
        default=False,
        help="replace an existing run of the same name",
        group="Run",
    ),
    Option(
        name="resume",
        type=RUN,
        default=None,
        help="resume this run from its last checkpoint, with the options it was started with; "
        "--epochs may be higher",
        group="Run",
        resumable=True,
    ),
    Option(
        name="force",
        type=YES_NO,
        default=False,
        help="let --resume change options that a run normally keeps",
        group="Run",
        resumable=True,
    ),
    Option(
        name="checkpoint_minutes",
        type=number(0, 10000),
        default=10.0,
        unit="minutes",
        help="interval of the checkpoints within an epoch, besides the one after each epoch; 0 "
        "disables them",
        group="Run",
        saved=True,
        resumable=True,
    ),
    Option(
        name="keep",
        type=whole(1, 1000),
        default=1,
        unit="epochs",
        help="number of epochs whose weights are kept, the best ones; from 2 on in the run's "
        "folder best/",
        group="Run",
        saved=True,
        resumable=True,
    ),
)

OUTPUT_OPTIONS = (
    Option(
        name="top_k",
        type=whole(1, 10000),
        default=None,
        default_text="5, or all if there are fewer",
        unit="classes",
        help="number of most probable classes that count",
        group="Output",
    ),
    Option(
        name="csv",
        type=PATH,
        default=None,
        help="also write a CSV file with one row per image",
        group="Output",
    ),
    Option(
        name="precision",
        type=number(0, 1, above=True, below=True),
        default=0.95,
        unit="fraction",
        help="target precision: correct predictions among those that are not rejected as unknown",
        group="Output",
    ),
    Option(
        name="record",
        type=SCORE_NAME,
        default=None,
        help="add the scores to the run's metrics.json, under this name, an underscore and the "
        "name of the score",
        group="Output",
    ),
    Option(
        name="json",
        type=YES_NO,
        default=False,
        help="print one line of JSON to standard output and nothing else",
        group="Output",
        resumable=True,
    ),
)

SERVER_OPTIONS = (
    Option(
        name="host",
        type=HOST,
        default="127.0.0.1",
        help="address to listen on; any but the loopback address needs --token_file or --no_auth",
        group="Server",
    ),
    Option(
        name="port",
        type=whole(0, 65535),
        default=5001,
        help="port to listen on; 0 chooses a free one",
        group="Server",
    ),
    Option(
        name="token_file",
        type=PATH,
        default=None,
        help="file with the token that every request must send as `Authorization: Bearer TOKEN`",
        group="Server",
    ),
    Option(
        name="no_auth",
        type=YES_NO,
        default=False,
        help="accept requests without a token",
        group="Server",
    ),
    Option(
        name="max_batch",
        type=whole(1, 1024),
        default=16,
        unit="images",
        help="maximum number of images that the model computes at once",
        group="Server",
    ),
    Option(
        name="max_wait_ms",
        type=number(0, 1000),
        default=0.0,
        unit="milliseconds",
        help="maximum time that an image waits for others while the model is idle; 0 disables it",
        group="Server",
    ),
    Option(
        name="max_queue",
        type=whole(1, 100000),
        default=128,
        unit="images",
        help="maximum number of waiting images; further requests are refused (503)",
        group="Server",
    ),
    Option(
        name="time_limit",
        type=number(0, 3600, above=True),
        default=10.0,
        unit="seconds",
        help="maximum time that a request waits before it is dropped (504)",
        group="Server",
    ),
    Option(
        name="max_megabytes",
        type=number(0, 1024, above=True),
        default=10.0,
        unit="10^6 bytes",
        help="maximum size of a request body",
        group="Server",
    ),
    Option(
        name="max_megapixels",
        type=number(0, 200, above=True),
        default=25.0,
        unit="10^6 pixels",
        help="maximum size of an image",
        group="Server",
    ),
    Option(
        name="max_images",
        type=whole(1, 1024),
        default=16,
        unit="images",
        help="maximum number of images per request",
        group="Server",
    ),
    Option(
        name="keep_uncertain",
        type=FOLDER,
        default=None,
        default_text="no image is kept",
        help="folder in which images with a probability below --keep_below are kept for labelling",
        group="Server",
    ),
    Option(
        name="keep_below",
        type=number(0, 1),
        default=0.5,
        unit="probability",
        help="images are kept if their most probable class is less probable than this",
        group="Server",
    ),
    Option(
        name="keep_megabytes",
        type=number(0, 100000, above=True),
        default=500.0,
        unit="10^6 bytes",
        help="maximum size of all kept images; then no more are kept",
        group="Server",
    ),
)

GENERAL_OPTIONS = (
    Option(
        name="config",
        type=PATH,
        default=None,
        help="YAML file with options; the command line takes precedence",
        group="General",
        resumable=True,
    ),
    Option(
        name="debug",
        type=YES_NO,
        default=False,
        help="print the traceback of an error",
        group="General",
        resumable=True,
    ),
)

OPTIONS = {
    option.name: option
    for option in (
        *DATA_OPTIONS,
        *MODEL_OPTIONS,
        *TRAINING_OPTIONS,
        *AUGMENTATION_OPTIONS,
        *DEVICE_OPTIONS,
        *RUN_OPTIONS,
        *OUTPUT_OPTIONS,
        *SERVER_OPTIONS,
        *GENERAL_OPTIONS,
    )
}
