"""Moving files so that an interruption at any point loses none."""

import contextlib
import errno
import filecmp
import os
import shutil

from tqdm import tqdm

from common.errors import RunError
from common.files import flush
from common.partial_paths import partial_path


def move_all(moves, description):
    """Moves files; where one fails, those before it are moved back.

    Args:
        moves: list of (old path, new path).
        description: str, of the progress bar.

    Raises:
        RunError: a file cannot be moved.
    """
    completed = []
    try:
        for source, target in tqdm(moves, description, unit=" files", leave=False, disable=None):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            move_file(source, target)
            completed.append((source, target))
    except OSError as error:
        reason = f"{error.filename or source}: {error.strerror}"
        try:
            for source, target in reversed(completed):
                move_file(target, source)
        except OSError as second_error:
            raise RunError(
                f"{reason}; moving back failed as well: {source}: {second_error.strerror}; "
                "--undo may do it later"
            ) from None
        raise RunError(f"{reason}; all files are where they were") from None


def move_file(source, target):
    """Moves a file or link; to another disk it is copied completely first, then removed.

    Args:
        source, target: str, the old and the new path.

    Raises:
        OSError: the file cannot be moved, and is where it was.
    """
    try:
        os.replace(source, target)  # os.rename, on Windows, refuses a target that exists
        return
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    with partial_path(target) as partial:
        shutil.copy2(source, partial, follow_symlinks=False)
        if not os.path.islink(partial):
            flush(partial)
        os.replace(partial, target)
        flush(os.path.dirname(target))
        try:
            os.unlink(source)
        except OSError:
            os.unlink(target)
            raise


def delete_all(file_paths):
    """Deletes files.

    Args:
        file_paths: list of str.

    Raises:
        RunError: a file cannot be deleted; those before it are gone.
    """
    for index, path in enumerate(file_paths):
        try:
            os.unlink(path)
        except OSError as error:
            raise RunError(
                f"{path}: {error.strerror}; {index} of {len(file_paths)} files are deleted, "
                "the others are unchanged"
            ) from None


def same_content(one, two):
    """Whether two files, or two links, are the same.

    Args:
        one, two: str, paths.
    """
    if os.path.islink(one) or os.path.islink(two):
        return os.path.islink(one) and os.path.islink(two) and os.readlink(one) == os.readlink(two)
    return os.path.isfile(one) and filecmp.cmp(one, two, shallow=False)


def remove_empty_folders(folder):
    """Removes the empty folders of a tree.

    Args:
        folder: str, the root of the tree.

    Returns:
        bool, whether all of the tree is gone.
    """
    for parent, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):  # it is not empty
            os.rmdir(parent)
    return not os.path.lexists(folder)
