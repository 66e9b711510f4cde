"""Folders of charts, replaced as a whole, and the manner in which charts are drawn."""

import contextlib
import os
import shutil

from common.errors import InputError, first_ten
from common.files import replace_folder

DPI = 100  # pixels an inch


def check_output_folder(target, files):
    """Refuses a --target that is neither free nor an earlier output.

    Args:
        target: the folder to make.
        files: names of the files that the tool writes: a folder that holds nothing else
            is an earlier output (or empty), and may be replaced.
    """
    # The second is where `files.replace_folder` puts the old one, deleting what is there.
    for path in (os.path.normpath(target), os.path.normpath(target) + ".old"):
        if not os.path.lexists(path):
            continue
        if os.path.islink(path) or not os.path.isdir(path):
            raise InputError(f"--target: {path} is not a folder; name one that does not exist")
        try:
            others = sorted(set(os.listdir(path)) - set(files))
        except OSError as error:
            raise InputError(f"--target: {path}: {error.strerror}") from None
        if others:
            raise InputError(
                f"--target: {path} exists and is no earlier output of this tool, it holds "
                f"{first_ten(others)}; name a folder that does not exist"
            )


@contextlib.contextmanager
def output_folder(target, files):
    """Gives a new folder to fill, which takes the place of `target` when all went well.

    Raises:
        InputError: as `check_output_folder`, or the folder cannot be written.
    """
    check_output_folder(target, files)
    target = os.path.normpath(target)
    parent, name = os.path.split(os.path.abspath(target))
    partial = os.path.join(parent, f".partial-{name}-{os.getpid()}")
    try:
        os.makedirs(parent, exist_ok=True)
        os.mkdir(partial)
        yield partial
        replace_folder(partial, target)
    except OSError as error:
        raise InputError(
            f"--target: {target} cannot be written: {error.strerror or error}"
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def drawing(families):
    """While charts are made and saved: their fonts, and an SVG that is the same every time."""
    import matplotlib

    settings = {
        "font.family": families,
        "svg.hashsalt": "charts",
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with matplotlib.rc_context(settings):
        yield


def save(figure, folder, stem, endings=("png", "svg")):
    """Writes a figure into `folder`, once for each ending."""
    for ending in endings:
        metadata = {"Date": None} if ending == "svg" else None
        # Tight: how wide a name becomes is only known when it has been drawn.
        figure.savefig(
            os.path.join(folder, f"{stem}.{ending}"),
            dpi=DPI,
            metadata=metadata,
            bbox_inches="tight",
            pad_inches=0.1,
        )
