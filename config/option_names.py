"""What people type for an option that a mode calls otherwise."""

from common.errors import nearest

# Names that work wherever a mode does not have them, but has one of these instead
SAME_OPTION = {"data": ("source", "train_data"), "run": ("model",), "model": ("run",)}
# Names of one meaning, in the words of other tools; an error suggests the one that the mode has
SAME_MEANING = (
    ("data", "train_data", "source", "image", "csv", "images", "input", "dataset", "folder", "dir"),
    ("data", "train_data", "data_dir", "data_path", "train_dir", "path", "root"),
    ("backbone", "arch", "architecture", "network", "net", "model_name", "model"),
    ("run", "model", "checkpoint", "ckpt", "model_path"),
    ("target", "output", "out", "output_dir", "dest", "destination"),
    ("save_dir", "run", "output_dir", "project", "log_dir"),
    ("learning_rate", "lr", "lr0", "rate", "base_lr"),
    ("batch_size", "bs", "batch"),
    ("input_size", "img_size", "image_size", "imgsz", "size", "resolution"),
    ("workers", "num_workers", "threads", "jobs", "j"),
    ("devices", "gpu", "gpus", "device"),
    ("weights", "pretrained"),
    ("mixed_precision", "precision", "amp", "fp16", "bf16"),
    ("epochs", "num_epochs", "n_epochs", "max_epochs"),
    ("val_fraction", "val_split", "validation_split", "val_data"),
    ("seed", "random_seed"),
    ("labels", "classes", "class_names", "names"),
    ("top_k", "topk", "k"),
)


def resolve(name, known_options):
    """The option that a name stands for in a mode.

    Args:
        name: str, as it is typed, without the dashes in front.
        known_options: collection of str, the options of the mode.

    Returns:
        str, one of `known_options`, or None.

    Example:
        >>> resolve("train-data", {"train_data"}), resolve("data", {"source"})
        ('train_data', 'source')
    """
    name = name.replace("-", "_")
    names = (name, *SAME_OPTION.get(name, ()))
    if name == "model" and "backbone" in known_options:  # which is what is meant more likely
        names = (name,)
    return next((other for other in names if other in known_options), None)


def suggest(name, known_options):
    """The option of a mode that does what a wrong name asks for, as the end of an error.

    Args:
        name: str, as it is typed, without the dashes in front.
        known_options: collection of str, the options of the mode.

    Returns:
        str, "; did you mean --NAME?", or "" where no option is like it.

    Example:
        >>> suggest("lr", {"learning_rate", "labels"})
        '; did you mean --learning_rate?'
    """
    name = name.replace("-", "_").lower()
    for names in SAME_MEANING:
        same = [other for other in names if other in known_options]
        if name in names and same:
            return f"; did you mean --{same[0]}?"
    return nearest(name, known_options).replace("mean ", "mean --")
