"""The options of each mode as a class, whose fields an editor completes.

`parser.parse` returns these values. They are frozen; `_replace`, `_asdict` and `_fields` work as
for every named tuple. `config/options.py` says what an option does. Written by
`python -m tests.option_reference`; a test compares the classes with the table of options.
"""

from typing import Literal, NamedTuple


class TrainOptions(NamedTuple):
    """`--mode train`: train a classifier on labelled images."""

    data: str | None
    train_data: str | tuple[str, ...]
    val_data: str | None
    unlabelled: str | tuple[str, ...] | None
    teacher: str | None
    val_fraction: float
    group: str | None
    labels: str | None
    max_bad: float
    workers: int
    data_time_limit: float
    cache_dir: str | None
    cache_gigabytes: float
    backbone: str
    weights: str
    weights_url: str | None
    input_size: int | None
    resize: Literal["letterbox", "crop", "stretch"]
    fill_color: tuple[int, int, int]
    dropout: float | None
    drop_connect: float | None
    attention: Literal["none", "cbam"]
    block_attention: Literal["se", "cbam", "none"]
    pooling: Literal["avg", "max", "gem", "bilinear", "compact_bilinear"]
    bilinear_dim: int | None
    head: Literal["linear", "prototype", "neighbours"] | None
    neighbour_count: int | None
    norm: Literal["batch", "group"]
    normalize: str | tuple[float, ...] | None
    recipe: Literal["auto", "fine_tuning", "solved", "scratch"]
    minutes: float
    batch_size: int
    epochs: int | None
    learning_rate: float | None
    optimizer: Literal[
        "adamw", "adam", "sgd", "rmsprop", "lion", "muon", "nadam", "lamb", "adafactor"
    ]
    weight_decay: float
    warmup_epochs: float | None
    label_smoothing: float
    loss: Literal["cross_entropy", "focal"]
    focal_gamma: float
    class_weights: Literal["none", "balanced", "effective_number"]
    sampler: Literal["uniform", "balanced"]
    nan_policy: Literal["stop", "restore"]
    linear_head: bool | None
    freeze_batchnorm: bool | None
    freeze_epochs: int
    cache_features: bool
    layer_decay: float | None
    clipnorm: float
    accumulate: int
    ema: float
    mixed_precision: Literal["auto", "float32", "bfloat16", "float16"]
    jit: Literal["auto", "on", "off"]
    scale_lr: Literal["none", "linear"]
    patience: int
    select: Literal["best", "last"] | None
    soup: bool
    seed: int
    horizontal_flip: bool
    vertical_flip: bool
    shift: float
    rotation: float
    zoom: float
    random_eraser: float
    randaugment: float
    augmix: float
    mixup: float
    cutmix: float
    multigpu: bool
    devices: str | None
    sync_batchnorm: bool | None
    backend: Literal["tensorflow", "jax"]
    coordinator: str | None
    num_processes: int | None
    process_id: int | None
    run: str | None
    save_dir: str
    log_dir: str
    overwrite: bool
    resume: str | None
    force: bool
    checkpoint_minutes: float
    keep: int
    track: Literal["mlflow"] | None
    json: bool
    config: str | None
    debug: bool
    given: frozenset[str]


class EvalOptions(NamedTuple):
    """`--mode eval`: evaluate a run or an exported model on labelled images."""

    data: str
    part: Literal["train", "val", "test", "all"] | None
    workers: int
    cache_dir: str | None
    cache_gigabytes: float
    batch_size: int
    tta: Literal["none", "flip", "five_crop"]
    runtime: Literal["auto", "openvino", "onnx", "litert", "savedmodel"]
    multigpu: bool
    devices: str | None
    run: str
    save_dir: str
    top_k: int | None
    csv: str | None
    record: str | None
    json: bool
    config: str | None
    debug: bool
    given: frozenset[str]


class PredictOptions(NamedTuple):
    """`--mode predict`: predict the classes of images."""

    image: tuple[str, ...]
    workers: int
    batch_size: int
    tta: Literal["none", "flip", "five_crop"]
    runtime: Literal["auto", "openvino", "onnx", "litert", "savedmodel"]
    run: str
    save_dir: str
    top_k: int | None
    csv: str | None
    strict: bool
    json: bool
    config: str | None
    debug: bool
    given: frozenset[str]


class SavePbOptions(NamedTuple):
    """`--mode save_pb`: export a run as a SavedModel that serves by itself."""

    run: str
    save_dir: str
    multigpu: bool
    json: bool
    config: str | None
    debug: bool
    given: frozenset[str]


class ExportOptions(NamedTuple):
    """`--mode export`: export a run for TensorFlow, ONNX Runtime and OpenVINO."""

    run: str
    save_dir: str
    format: tuple[str, ...]
    quantize: tuple[str, ...]
    min_agreement: float
    max_drop: float
    track: Literal["mlflow"] | None
    json: bool
    config: str | None
    debug: bool
    given: frozenset[str]


class BenchmarkOptions(NamedTuple):
    """`--mode benchmark`: compare the runtimes of an exported model on this machine."""

    model: str
    data: str | None
    part: Literal["train", "val", "test", "all"] | None
    workers: int
    batch_size: int
    save_dir: str
    target: str
    json: bool
    config: str | None
    debug: bool
    given: frozenset[str]


class ServeOptions(NamedTuple):
    """`--mode serve`: answer requests over HTTP."""

    model: str
    runtime: Literal["auto", "openvino", "onnx", "litert", "savedmodel"]
    save_dir: str
    top_k: int | None
    host: str
    port: int
    probe_port: int | None
    allow_host: tuple[str, ...] | None
    cors: tuple[str, ...] | None
    token_file: str | None
    no_auth: bool
    workers: int
    max_batch: int
    max_wait_ms: float
    max_queue: int
    time_limit: float
    max_megabytes: float
    memory_megabytes: float | None
    max_megapixels: float
    max_images: int
    keep_uncertain: str | None
    keep_below: float
    keep_megabytes: float
    lang: Literal["en", "zh"] | None
    json: bool
    config: str | None
    debug: bool
    given: frozenset[str]


class BackbonesOptions(NamedTuple):
    """`--mode backbones`: list the backbones: size, cost, weights."""

    json: bool
    config: str | None
    debug: bool
    given: frozenset[str]


class FetchWeightsOptions(NamedTuple):
    """`--mode fetch_weights`: download the ImageNet weights of a backbone."""

    backbone: str
    weights_url: str | None
    json: bool
    config: str | None
    debug: bool
    given: frozenset[str]


class AddClassOptions(NamedTuple):
    """`--mode add_class`: add a class to a run, or remove one, and keep its network."""

    run: str
    save_dir: str
    name: str
    data: str | None
    remove: bool
    new_run: str | None
    overwrite: bool
    log_dir: str
    batch_size: int
    workers: int
    json: bool
    config: str | None
    debug: bool
    given: frozenset[str]


class EmbedOptions(NamedTuple):
    """`--mode embed`: write the features of photos to a file."""

    data: str
    backbone: str
    weights: str
    input_size: int | None
    run: str | None
    save_dir: str
    batch_size: int
    workers: int
    cache_dir: str | None
    cache_gigabytes: float
    unit_length: bool
    target: str
    json: bool
    config: str | None
    debug: bool
    given: frozenset[str]


class SimilarOptions(NamedTuple):
    """`--mode similar`: find the photos that look most like others."""

    image: tuple[str, ...]
    data: str
    top_k: int | None
    backbone: str
    weights: str
    input_size: int | None
    run: str | None
    save_dir: str
    batch_size: int
    workers: int
    target: str
    lang: Literal["en", "zh"] | None
    json: bool
    config: str | None
    debug: bool
    given: frozenset[str]


class PreviewOptions(NamedTuple):
    """`--mode preview`: draw a batch of training images as the model sees them."""

    train_data: str | tuple[str, ...]
    labels: str | None
    workers: int
    input_size: int
    resize: Literal["letterbox", "crop", "stretch"]
    fill_color: tuple[int, int, int]
    batch_size: int
    label_smoothing: float
    sampler: Literal["uniform", "balanced"]
    seed: int
    horizontal_flip: bool
    vertical_flip: bool
    shift: float
    rotation: float
    zoom: float
    random_eraser: float
    randaugment: float
    augmix: float
    mixup: float
    cutmix: float
    target: str
    json: bool
    config: str | None
    debug: bool
    given: frozenset[str]


class Dir2txtOptions(NamedTuple):
    """`--mode dir2txt`: convert a folder with one subfolder per class into the sample format."""

    source: str
    target: str
    how: Literal["copy", "link", "move"]
    split: tuple[float, ...] | None
    group: str | None
    workers: int
    dry_run: bool
    json: bool
    config: str | None
    debug: bool
    given: frozenset[str]


class Txt2dirOptions(NamedTuple):
    """`--mode txt2dir`: convert the sample format into one folder per class, or into a CSV file."""

    source: str | None
    labels: str | None
    target: str | None
    how: Literal["copy", "link", "move"]
    csv: str | None
    dry_run: bool
    json: bool
    config: str | None
    debug: bool
    given: frozenset[str]


class MeanStdOptions(NamedTuple):
    """`--mode mean_std`: compute the mean and standard deviation of the pixels of a folder."""

    source: str
    input_size: int
    resize: Literal["letterbox", "crop", "stretch"]
    fill_color: tuple[int, int, int]
    original: bool
    workers: int
    cache_dir: str | None
    cache_gigabytes: float
    target: str
    json: bool
    config: str | None
    debug: bool
    given: frozenset[str]


class StatisticsOptions(NamedTuple):
    """`--mode statistics`: chart the images per class, their sizes and aspect ratios."""

    source: str
    val_data: str | None
    labels: str | None
    workers: int
    cache_dir: str | None
    cache_gigabytes: float
    target: str
    json: bool
    config: str | None
    debug: bool
    given: frozenset[str]


class ConfusionMatrixOptions(NamedTuple):
    """`--mode confusion_matrix`: chart which classes are confused with which."""

    data: str | None
    part: Literal["train", "val", "test", "all"] | None
    workers: int
    batch_size: int
    run: str
    save_dir: str
    target: str | None
    json: bool
    config: str | None
    debug: bool
    given: frozenset[str]


class SplitOptions(NamedTuple):
    """`--mode split`: assign photos to training, validation and test; they stay where they are."""

    data: str
    shares: tuple[float, ...] | None
    group: str | None
    workers: int
    dry_run: bool
    json: bool
    config: str | None
    debug: bool
    given: frozenset[str]


class PackOptions(NamedTuple):
    """`--mode pack`: pack photos into tar files with an index, for millions of them."""

    data: str
    target: str
    shard_megabytes: int
    pack_size: int | None
    seed: int
    labels: str | None
    workers: int
    json: bool
    config: str | None
    debug: bool
    given: frozenset[str]


class UnpackOptions(NamedTuple):
    """`--mode unpack`: give packed photos back as files."""

    data: str
    target: str
    json: bool
    config: str | None
    debug: bool
    given: frozenset[str]


class AddOptions(NamedTuple):
    """`--mode add`: add photos to a data set; its own photos stay as they are."""

    data: str
    source: str
    how: Literal["copy", "link", "move"]
    workers: int
    dry_run: bool
    json: bool
    config: str | None
    debug: bool
    given: frozenset[str]


class AuditOptions(NamedTuple):
    """`--mode audit`: find broken files, wrong labels, duplicates and leaks."""

    source: str
    val_data: str | None
    labels: str | None
    near_duplicates: bool
    group: str | None
    workers: int
    cache_dir: str | None
    cache_gigabytes: float
    target: str
    lang: Literal["en", "zh"] | None
    json: bool
    config: str | None
    debug: bool
    given: frozenset[str]


class CleanOptions(NamedTuple):
    """`--mode clean`: move the files found by the audit out of the way, or back."""

    csv: str | None
    target: str
    delete: bool
    undo: str | None
    dry_run: bool
    json: bool
    config: str | None
    debug: bool
    given: frozenset[str]


class ReportOptions(NamedTuple):
    """`--mode report`: write a page about a run: scores, errors, doubtful labels."""

    data: str
    part: Literal["train", "val", "test", "all"] | None
    workers: int
    batch_size: int
    run: str
    save_dir: str
    attributes: str | None
    group: str | None
    robustness: bool
    target: str | None
    track: Literal["mlflow"] | None
    lang: Literal["en", "zh"] | None
    json: bool
    config: str | None
    debug: bool
    given: frozenset[str]


class LabelOptions(NamedTuple):
    """`--mode label`: sort photos into classes and correct labels on a page."""

    data: str
    run: str | None
    save_dir: str
    queue: Literal["unsorted", "kept", "doubtful", "audit", "conflicts", "removed"] | None
    csv: str | None
    suggest: bool
    backbone: str
    port: int
    browser: bool
    lang: Literal["en", "zh"] | None
    json: bool
    config: str | None
    debug: bool
    given: frozenset[str]


class RelabelOptions(NamedTuple):
    """`--mode relabel`: correct labels from the table of a report."""

    run: str
    save_dir: str
    csv: str
    data: str | None
    dry_run: bool
    json: bool
    config: str | None
    debug: bool
    given: frozenset[str]


class DriftOptions(NamedTuple):
    """`--mode drift`: test whether new photos differ from those that a run was validated with."""

    run: str
    data: str
    workers: int
    batch_size: int
    save_dir: str
    target: str
    lang: Literal["en", "zh"] | None
    json: bool
    config: str | None
    debug: bool
    given: frozenset[str]


class CompareOptions(NamedTuple):
    """`--mode compare`: test whether one run is better than another."""

    runs: tuple[str, ...]
    data: str
    part: Literal["train", "val", "test", "all"] | None
    workers: int
    batch_size: int
    save_dir: str
    attributes: str | None
    group: str | None
    json: bool
    config: str | None
    debug: bool
    given: frozenset[str]


class CrossvalOptions(NamedTuple):
    """`--mode crossval`: measure a training on every photo by models that have not seen it."""

    data: str
    folds: int
    seeds: int
    export: Literal["mean", "all"] | None
    val_fraction: float
    group: str | None
    labels: str | None
    max_bad: float
    workers: int
    data_time_limit: float
    cache_dir: str | None
    cache_gigabytes: float
    backbone: str
    weights: str
    weights_url: str | None
    input_size: int | None
    resize: Literal["letterbox", "crop", "stretch"]
    fill_color: tuple[int, int, int]
    dropout: float | None
    drop_connect: float | None
    attention: Literal["none", "cbam"]
    block_attention: Literal["se", "cbam", "none"]
    pooling: Literal["avg", "max", "gem", "bilinear", "compact_bilinear"]
    bilinear_dim: int | None
    head: Literal["linear", "prototype", "neighbours"] | None
    neighbour_count: int | None
    norm: Literal["batch", "group"]
    normalize: str | tuple[float, ...] | None
    recipe: Literal["auto", "fine_tuning", "solved", "scratch"]
    minutes: float
    batch_size: int
    epochs: int | None
    learning_rate: float | None
    optimizer: Literal[
        "adamw", "adam", "sgd", "rmsprop", "lion", "muon", "nadam", "lamb", "adafactor"
    ]
    weight_decay: float
    warmup_epochs: float | None
    label_smoothing: float
    loss: Literal["cross_entropy", "focal"]
    focal_gamma: float
    class_weights: Literal["none", "balanced", "effective_number"]
    sampler: Literal["uniform", "balanced"]
    nan_policy: Literal["stop", "restore"]
    linear_head: bool | None
    freeze_batchnorm: bool | None
    freeze_epochs: int
    cache_features: bool
    layer_decay: float | None
    clipnorm: float
    accumulate: int
    ema: float
    mixed_precision: Literal["auto", "float32", "bfloat16", "float16"]
    jit: Literal["auto", "on", "off"]
    scale_lr: Literal["none", "linear"]
    patience: int
    select: Literal["best", "last"] | None
    soup: bool
    seed: int
    horizontal_flip: bool
    vertical_flip: bool
    shift: float
    rotation: float
    zoom: float
    random_eraser: float
    randaugment: float
    augmix: float
    mixup: float
    cutmix: float
    run: str | None
    save_dir: str
    log_dir: str
    overwrite: bool
    checkpoint_minutes: float
    track: Literal["mlflow"] | None
    lang: Literal["en", "zh"] | None
    json: bool
    config: str | None
    debug: bool
    given: frozenset[str]


class TuneOptions(NamedTuple):
    """`--mode tune`: search settings better than the defaults, and test whether they are."""

    data: str
    search: tuple[str, ...] | None
    minutes: float | None
    trials: int | None
    seeds: int
    storage: str | None
    group: str | None
    labels: str | None
    max_bad: float
    workers: int
    data_time_limit: float
    backbone: str
    weights: str
    weights_url: str | None
    input_size: int | None
    resize: Literal["letterbox", "crop", "stretch"]
    fill_color: tuple[int, int, int]
    dropout: float | None
    drop_connect: float | None
    attention: Literal["none", "cbam"]
    block_attention: Literal["se", "cbam", "none"]
    pooling: Literal["avg", "max", "gem", "bilinear", "compact_bilinear"]
    bilinear_dim: int | None
    head: Literal["linear", "prototype", "neighbours"] | None
    neighbour_count: int | None
    norm: Literal["batch", "group"]
    normalize: str | tuple[float, ...] | None
    recipe: Literal["auto", "fine_tuning", "solved", "scratch"]
    batch_size: int
    epochs: int | None
    learning_rate: float | None
    optimizer: Literal[
        "adamw", "adam", "sgd", "rmsprop", "lion", "muon", "nadam", "lamb", "adafactor"
    ]
    weight_decay: float
    warmup_epochs: float | None
    label_smoothing: float
    loss: Literal["cross_entropy", "focal"]
    focal_gamma: float
    class_weights: Literal["none", "balanced", "effective_number"]
    sampler: Literal["uniform", "balanced"]
    nan_policy: Literal["stop", "restore"]
    linear_head: bool | None
    freeze_batchnorm: bool | None
    freeze_epochs: int
    cache_features: bool
    layer_decay: float | None
    clipnorm: float
    accumulate: int
    ema: float
    mixed_precision: Literal["auto", "float32", "bfloat16", "float16"]
    jit: Literal["auto", "on", "off"]
    scale_lr: Literal["none", "linear"]
    patience: int
    select: Literal["best", "last"] | None
    soup: bool
    seed: int
    horizontal_flip: bool
    vertical_flip: bool
    shift: float
    rotation: float
    zoom: float
    random_eraser: float
    randaugment: float
    augmix: float
    mixup: float
    cutmix: float
    run: str | None
    save_dir: str
    log_dir: str
    overwrite: bool
    checkpoint_minutes: float
    lang: Literal["en", "zh"] | None
    json: bool
    config: str | None
    debug: bool
    given: frozenset[str]


class CalibrateOptions(NamedTuple):
    """`--mode calibrate`: calibrate the probabilities of a model, and let it answer unknown."""

    run: str
    data: str
    part: Literal["train", "val", "test", "all"] | None
    precision: float
    false_alarms: float
    workers: int
    batch_size: int
    save_dir: str
    dry_run: bool
    json: bool
    config: str | None
    debug: bool
    given: frozenset[str]


class DoctorOptions(NamedTuple):
    """`--mode doctor`: describe this installation on one page, for a bug report."""

    full: bool
    save_dir: str
    log_dir: str
    json: bool
    config: str | None
    debug: bool
    given: frozenset[str]


class AllOptions(NamedTuple):
    """`--mode all`: make a measured, exported model of a folder of photos, in one command."""

    data: str
    group: str | None
    backbone: str
    weights: str
    minutes: float
    workers: int
    run: str | None
    save_dir: str
    log_dir: str
    lang: Literal["en", "zh"] | None
    json: bool
    config: str | None
    debug: bool
    given: frozenset[str]


class DemoOptions(NamedTuple):
    """`--mode demo`: train, evaluate, export and predict 1,797 handwritten digits."""

    target: str
    epochs: int
    save_dir: str
    log_dir: str
    json: bool
    config: str | None
    debug: bool
    given: frozenset[str]


class DemoDataOptions(NamedTuple):
    """`--mode demo_data`: write only the digits of --mode demo, in the sample format."""

    target: str
    seed: int
    json: bool
    config: str | None
    debug: bool
    given: frozenset[str]


OPTION_CLASSES = {
    "train": TrainOptions,
    "eval": EvalOptions,
    "predict": PredictOptions,
    "save_pb": SavePbOptions,
    "export": ExportOptions,
    "benchmark": BenchmarkOptions,
    "serve": ServeOptions,
    "backbones": BackbonesOptions,
    "fetch_weights": FetchWeightsOptions,
    "add_class": AddClassOptions,
    "embed": EmbedOptions,
    "similar": SimilarOptions,
    "preview": PreviewOptions,
    "dir2txt": Dir2txtOptions,
    "txt2dir": Txt2dirOptions,
    "mean_std": MeanStdOptions,
    "statistics": StatisticsOptions,
    "confusion_matrix": ConfusionMatrixOptions,
    "split": SplitOptions,
    "pack": PackOptions,
    "unpack": UnpackOptions,
    "add": AddOptions,
    "audit": AuditOptions,
    "clean": CleanOptions,
    "report": ReportOptions,
    "label": LabelOptions,
    "relabel": RelabelOptions,
    "drift": DriftOptions,
    "compare": CompareOptions,
    "crossval": CrossvalOptions,
    "tune": TuneOptions,
    "calibrate": CalibrateOptions,
    "doctor": DoctorOptions,
    "all": AllOptions,
    "demo": DemoOptions,
    "demo_data": DemoDataOptions,
}  # mode -> its class
