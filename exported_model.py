"""The description of an exported model, `model.json`: what serves it needs to know."""

import hashlib
import json
import os

import run_folder
from errors import InputError, first_ten
from preprocess import Preprocessing

FORMAT = 1  # of model.json; a reader refuses another
SELF_TEST = "self_test.npz"  # an image as the model takes it, and what it answers


def checksum(path):
    """SHA-256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_description(folder):
    """The content of an exported model's model.json, a dict.

    Raises:
        InputError: there is none, or it is no JSON object.
    """
    path = os.path.join(folder, run_folder.MODEL_FILE)
    try:
        with open(path, encoding="utf-8") as file:
            description = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    if not isinstance(description, dict):
        raise InputError(f"{path}: is not the description of an exported model")
    return description


def check_description(folder, description):
    """Labels and preprocessing of an exported model whose files are all as they were."""
    path = os.path.join(folder, run_folder.MODEL_FILE)
    if description.get("format") != FORMAT:
        raise InputError(
            f"{path}: has format {description.get('format')!r}; this version reads {FORMAT}"
        )
    try:
        labels = tuple(description["labels"])
        files = description["files"]
        settings = description["preprocessing"]
        formats = description.get("formats", {"savedmodel": {}})
        if not formats or not all(isinstance(each, dict) for each in (formats, *formats.values())):
            raise TypeError("formats")
        preprocessing = Preprocessing(**{**settings, "fill_color": tuple(settings["fill_color"])})
        missing = [name for name in files if not os.path.isfile(os.path.join(folder, name))]
        if missing:
            raise InputError(f"{folder}: files are missing: {first_ten(missing)}")
        changed = [name for name in files if checksum(os.path.join(folder, name)) != files[name]]
        if changed:
            raise InputError(f"{folder}: files have changed since export: {first_ten(changed)}")
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: is not complete: {error!r}") from None
    return labels, preprocessing
