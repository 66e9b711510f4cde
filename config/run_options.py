"""Options about devices, runs, exported models and output.

`config/options.py` says what an `Option` is.
"""

from config.options import Option
from config.value_types import (
    ADDRESS,
    CLASS_NAME,
    DEVICES,
    FOLDER,
    FORMATS,
    OPTION_NAMES,
    PATH,
    QUANTIZE,
    RUN,
    RUN_NAME,
    SCORE_NAME,
    STORAGE,
    YES_NO,
    choice,
    number,
    whole,
)
from pages.languages import LANGUAGES

# What --run and --model take
NAMES_OF_A_RUN = "a name, the beginning of one, a path, or last"

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
        help="compute the batch normalization statistics over the whole batch instead of over "
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
    Option(name="name", type=CLASS_NAME, default=None, help="name of the class", group="Run"),
    Option(
        name="remove",
        type=YES_NO,
        default=False,
        help="remove the class --name instead of adding it",
        group="Run",
    ),
    Option(
        name="new_run",
        type=RUN_NAME,
        default=None,
        default_text="RUN-with-NAME, or RUN-without-NAME",
        help="name of the new run",
        group="Run",
    ),
    Option(
        name="run",
        type=RUN,
        default="last",
        default_text="last, the newest run",
        help="run or exported model: " + NAMES_OF_A_RUN,
        group="Run",
        saved=True,
    ),
    Option(
        name="teacher",
        type=RUN,
        default=None,
        help="run or exported model of the same classes, usually a larger one, whose "
        "probabilities are learned beside the labels (distillation): " + NAMES_OF_A_RUN,
        group="Run",
        saved=True,
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
        default="last",
        default_text="last, the newest run",
        help="exported model, or a run that has one: " + NAMES_OF_A_RUN,
        group="Run",
    ),
    Option(
        name="format",
        type=FORMATS,
        default=("savedmodel", "onnx", "openvino"),
        help="formats to export, for TensorFlow, ONNX Runtime, OpenVINO and LiteRT; web is a page "
        "that computes in the browser, for any static file server, and adds onnx",
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
        name="folds",
        type=whole(2, 100),
        default=5,
        help="number of parts that the photos are divided into; each is judged by a model of the "
        "others",
        group="Run",
    ),
    Option(
        name="seeds",
        type=whole(1, 100),
        default=1,
        help="how often all folds are drawn and trained anew",
        group="Run",
    ),
    Option(
        name="search",
        type=OPTION_NAMES,
        default=None,
        default_text="what matters most in trainings of this kind, but for what is given",
        help="training options to search; what is given of them is where the search begins, every "
        "other option stays as it is",
        group="Run",
    ),
    Option(
        name="trials",
        type=whole(1, 100000),
        default=None,
        default_text="as many as --minutes leaves time for",
        help="maximum number of trials, the starting point included",
        group="Run",
    ),
    Option(
        name="storage",
        type=STORAGE,
        default=None,
        default_text="a file in the study's folder",
        help="database of the study, by which several machines work on it at once",
        group="Run",
    ),
    Option(
        name="export",
        type=choice("mean", "all"),
        default=None,
        default_text="no model",
        help="export a model in the end: the mean of the folds' models, or one trained on all "
        "photos",
        group="Run",
    ),
    Option(
        name="track",
        type=choice("mlflow"),
        default=None,
        default_text="nothing is sent",
        help="send options, scores, report and exported model to MLflow: where "
        "MLFLOW_TRACKING_URI says, else to mlflow.db beside the runs",
        group="Run",
        resumable=True,
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
        name="strict",
        type=YES_NO,
        default=False,
        help="end with exit status 2 where one image has no answer, instead of only where none has",
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
        name="false_alarms",
        type=number(0, 0.5),
        default=0.05,
        unit="fraction",
        help="fraction of these images that may be called unlike anything seen; fewer let more "
        "of what was never seen pass, 0 calls nothing so",
        group="Output",
    ),
    Option(
        name="robustness",
        type=YES_NO,
        default=False,
        help="measure the accuracy on blurred, noisy, dark, compressed and rotated photos, too, "
        "which takes 25 times as long",
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
        name="queue",
        type=choice("unsorted", "kept", "doubtful", "audit", "conflicts", "removed"),
        default=None,
        default_text="the first that has photos",
        help="photos that are shown first: those without a class, kept by the server, doubtful in "
        "the report, found by the audit, the same with two classes, or set aside",
        group="Page",
    ),
    Option(
        name="suggest",
        type=YES_NO,
        default=True,
        help="compute suggestions in the background, and show the most useful photos first",
        group="Page",
    ),
    Option(
        name="browser",
        type=YES_NO,
        default=True,
        help="open the page in the browser, where there is a screen",
        group="Page",
    ),
    Option(
        name="lang",
        type=choice(*LANGUAGES),
        default=None,
        default_text="the language of the system",
        help="language of the page: English or Chinese",
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


GENERAL_OPTIONS = (
    Option(
        name="full",
        type=YES_NO,
        default=False,
        help="also check what takes up to a minute: devices, a training of a few steps, an export",
        group="General",
    ),
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
