"""Folders of charts, replaced as a whole, and the style in which charts are drawn."""

import contextlib
import os

from common.errors import InputError, first_ten
from common.files import replacing_folder
from common.write_errors import write_error
from pages.rendering import light_colors

DPI = 100  # pixels per inch


def check_output_folder(target, files):
    """Refuses a --target that is neither free nor an earlier output.

    Args:
        target: str, the folder to make.
        files: tuple of str, names of the files that the tool writes: a folder that holds nothing
            else is an earlier output (or empty), and may be replaced.
    """
    # The second is where `files.replace_folder` puts the old one, deleting what is there.
    for path in (os.path.normpath(target), os.path.normpath(target) + ".old"):
        if not os.path.lexists(path):
            continue
        if os.path.islink(path) or not os.path.isdir(path):
            raise InputError(f"--target: {path} is not a folder; name one that does not exist")
        try:
            other_files = sorted(set(os.listdir(path)) - set(files))
        except OSError as error:
            raise InputError(f"--target: {path}: {error.strerror}") from None
        if other_files:
            raise InputError(
                f"--target: {path} exists and is not an earlier output of this tool: it holds "
                f"{first_ten(other_files)}; name a folder that does not exist"
            )


@contextlib.contextmanager
def output_folder(target, files):
    """A context with a new folder to fill, which replaces `target` when all went well.

    Args:
        target: str, the folder to make.
        files: tuple of str, names of the files that the tool writes.

    Yields:
        str, the folder to write into.

    Raises:
        InputError: `target` must not be replaced, or the folder cannot be written.
        RunError: the disk is full.
    """
    check_output_folder(target, files)
    target = os.path.normpath(target)
    try:
        with replacing_folder(target) as partial_folder:
            yield partial_folder
    except OSError as error:
        raise write_error(error, target, "--target") from None


@contextlib.contextmanager
def drawing(families):
    """A context in which charts are made and saved: fonts, the pages' colours, an unchanging SVG.

    Args:
        families: str or list of str, matplotlib's `font.family`.
    """
    import matplotlib

    colors = light_colors()
    chart_settings = {
        "text.color": colors["text"],
        "axes.labelcolor": colors["text"],
        "axes.edgecolor": colors["dash"],
        "xtick.color": colors["faint"],
        "xtick.labelcolor": colors["text"],
        "ytick.color": colors["faint"],
        "ytick.labelcolor": colors["text"],
        "grid.color": colors["line"],
        "font.family": families,
        "svg.hashsalt": "charts",
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with matplotlib.rc_context(chart_settings):
        yield


def save(figure, folder, stem, endings=("png", "svg")):
    """Writes a figure into a folder, once per format.

    Args:
        figure: `matplotlib.figure.Figure`.
        folder: str, an existing folder.
        stem: str, the file name without extension.
        endings: tuple of str, the formats.
    """
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
