"""A folder of the quarantine: its manifest.csv, and `files/` with what was moved there."""

import os
import shutil

from common.errors import InputError
from common.files import flush
from common.tables import read_table, write_table
from common.write_errors import write_error

MANIFEST, FILES = "manifest.csv", "files"
COLUMNS = ("from", "to")  # an absolute path, and a path relative to the manifest's folder


def new_folder(quarantine):
    """Makes the next numbered folder of the quarantine.

    Args:
        quarantine: str, path of the quarantine, made where it does not exist.

    Returns:
        str, path of the new folder.

    Raises:
        InputError: it cannot be made.
    """
    try:
        os.makedirs(quarantine, exist_ok=True)
        numbers = [int(name) for name in os.listdir(quarantine) if name.isdecimal()]
        folder = os.path.join(quarantine, f"{max(numbers, default=0) + 1:04}")
        os.mkdir(folder)
    except OSError as error:
        raise write_error(error, quarantine, "--target") from None
    return folder


def write_manifest(folder, file_paths):
    """Writes the manifest, from which an interrupted move can be undone.

    Args:
        folder: str, from `new_folder`; it is removed where writing fails.
        file_paths: list of str, absolute paths of the files to move.

    Returns:
        (path of the manifest, list of (old path, new path)).

    Raises:
        InputError: it cannot be written, or the files are on several drives of Windows.
    """
    try:
        common_folder = os.path.commonpath([os.path.dirname(path) for path in file_paths])
    except ValueError:
        shutil.rmtree(folder, ignore_errors=True)
        drives = sorted({os.path.splitdrive(path)[0] for path in file_paths})
        raise InputError(
            f"--csv: names files on the drives {', '.join(drives)}; clean one drive at a time"
        ) from None
    # The last folder that all have in common is kept, so that the name of a class is.
    parent = os.path.dirname(common_folder)
    names = [os.path.join(FILES, os.path.relpath(path, parent)) for path in file_paths]
    manifest = os.path.join(folder, MANIFEST)
    try:
        write_table(manifest, COLUMNS, zip(file_paths, names))
        flush(os.path.dirname(folder))
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise write_error(error, folder, "--target") from None
    return manifest, [(path, os.path.join(folder, name)) for path, name in zip(file_paths, names)]


def read_manifest(path):
    """Reads a manifest.

    Args:
        path: str, the file.

    Returns:
        List of (old path, new path) of the files that were to be moved.

    Raises:
        InputError: not a manifest.
    """
    folder, moves = os.path.dirname(path), []
    for location, row in read_table(path, COLUMNS, "clean"):
        if not os.path.isabs(row["from"]) or not row["to"]:
            raise InputError(
                f"{location}: is not a line of a quarantine's manifest; allowed are an absolute "
                "path and a path relative to the manifest"
            )
        moves.append((row["from"], os.path.join(folder, row["to"])))
    return moves
