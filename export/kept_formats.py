"""Formats that a new export keeps from the one before it, where both are of the same weights."""

import os
import shutil

from common.console import say
from common.errors import InputError
from export import web
from prediction.exported_model import check_files, formats_of, parse_description, read_description
from runs import run_folder

PREFIXES = ("model.", f"{web.FOLDER}/")  # of the files of every format but the SavedModel


def keep_formats(model_folder, new_folder, weights):
    """Copies the formats beside the SavedModel, or says that they are of other weights.

    Args:
        model_folder: str, the folder of the export before, which need not exist.
        new_folder: str, an existing folder, where a SavedModel is to replace that export.
        weights: str, checksum of the weights that are exported now.

    Returns:
        dict of format -> dict of precision, as model.json has them; empty where none is kept.

    Raises:
        InputError: the export before is damaged.
        OSError: a file cannot be copied.
    """
    if not run_folder.is_exported(model_folder):
        return {}
    try:
        earlier = read_description(model_folder)
        parse_description(model_folder, earlier)
        others = {key: table for key, table in formats_of(earlier).items() if key != "savedmodel"}
        if others and earlier.get("weights") != weights:
            say(
                f"note: {model_folder}: {', '.join(others)} are of other weights and are removed; "
                "--mode export makes them of these"
            )
            return {}
        files = earlier["files"].items() if others else ()
        checksums = {name: value for name, value in files if name.startswith(PREFIXES)}
        check_files(model_folder, {"files": checksums})
    except InputError as error:
        raise InputError(
            f"{error}; save_pb cannot keep the formats that are in there: --mode export makes all "
            "of them again"
        ) from None
    for file_name in checksums:
        os.makedirs(os.path.dirname(os.path.join(new_folder, file_name)), exist_ok=True)
        shutil.copyfile(os.path.join(model_folder, file_name), os.path.join(new_folder, file_name))
    if others:
        say(f"note: {', '.join(others)} in {model_folder} are of the same weights and are kept")
    return others
