"""Which files are images, and finding them in folders and in the folders below."""

import glob
import os
from collections import Counter
from typing import NamedTuple

from common.console import say
from common.errors import InputError, first_ten

EXTENSIONS = (
    *(".jpg", ".jpeg", ".jfif", ".jpe", ".mpo"),  # all of them JPEGs
    *(".png", ".bmp", ".webp", ".gif", ".tif", ".tiff"),
    *(".heic", ".heif", ".hif", ".avif"),
)
UNSORTED = "_unsorted"  # the folder of a data set's photos that have no class yet
REMOVED = "_removed"  # that of the photos that somebody has set aside
# What systems and programs leave beside photos, in lower case: thumbnails of Synology's and
# QNAP's boxes, macOS's halves of files in archives, Jupyter's copies, bins, folder settings.
# Hidden names are passed over as well, with them "._photo.jpg" of macOS.
SYSTEM_FOLDERS = frozenset(
    ("@eadir", ".@__thumb", "__macosx", ".ipynb_checkpoints", "#recycle", "@recycle")
    + ("$recycle.bin", "system volume information", "lost+found", UNSORTED, REMOVED)
)
SYSTEM_FILES = frozenset(("thumbs.db", "ehthumbs.db", "desktop.ini", "picasa.ini"))
# What this project itself writes beside photos: class names, their parts
STEPS = "labels.steps.jsonl"  # what was done on the page of --mode label
GROUPS = "groups.csv"  # a table beside photos: which belong together
OWN_FILES = frozenset(
    ("label.json", "splits.csv", "labels.log.csv", GROUPS, STEPS, "converted_from.json")
)
# Names of kinds of files that are not read, for the line that counts what is left out
OTHER_KINDS = {
    "video": (".mov", ".mp4", ".m4v", ".avi", ".mkv", ".webm", ".3gp", ".mts", ".wmv"),
    "RAW": (".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2", ".pef", ".srw"),
    "JPEG XL": (".jxl",),
    "JPEG 2000": (".jp2", ".j2k", ".jpx", ".jpf"),
    "PDF": (".pdf",),
    "SVG": (".svg", ".svgz"),
    "Photoshop": (".psd", ".psb"),
    "archive": (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"),
}


class FolderContents(NamedTuple):
    """What is in a folder and in the folders below it, without hidden and system files.

    Paths are relative to the folder and sorted.

    Attributes:
        images: list of str, the files with one of `EXTENSIONS`.
        others: list of str, the other files.
        links: list of str, links to folders, which are not followed: they may lead in circles.
        empty_folders: list of str, folders without images and without folders.
        unreadable: list of (str, str), folders that cannot be read, and why.
    """

    images: list
    others: list
    links: list
    empty_folders: list
    unreadable: list


def is_image(name):
    """Whether a file name is that of an image.

    Args:
        name: str, a file name or path.

    Returns:
        bool.
    """
    return name.lower().endswith(EXTENSIONS)


def is_system_name(name):
    """Whether a file or folder is hidden, left by a system or program beside photos, or `UNSORTED`.

    Args:
        name: str, a name without its folder.

    Returns:
        bool.

    Example:
        >>> is_system_name("._photo.jpg"), is_system_name("@eaDir"), is_system_name("photo.jpg")
        (True, True, False)
    """
    lower_name = name.lower()
    return name.startswith(".") or lower_name in SYSTEM_FOLDERS or lower_name in SYSTEM_FILES


def is_being_sorted(folder):
    """Whether `--mode label` has begun to sort a folder: photos without a class are expected.

    Args:
        folder: str.

    Returns:
        bool.
    """
    return os.path.exists(os.path.join(folder, STEPS))


def has_line_break(name):
    """Whether a file name has a character that label files and tables cannot hold.

    Args:
        name: str, a file name or path.

    Returns:
        bool, whether it has a newline, a carriage return or a byte order mark at its start.
    """
    return "\n" in name or "\r" in name or os.path.basename(name).startswith("\ufeff")


def check_line_breaks(folder, names):
    """Refuses file names that label files and tables cannot hold.

    Args:
        folder: str, for the message.
        names: iterable of str.

    Raises:
        InputError: `has_line_break` is true of a name.
    """
    refused = [repr(name) for name in names if has_line_break(name)]
    if refused:
        raise InputError(
            f"{folder}: {len(refused)} file names contain a line break or begin with a byte order "
            f"mark: {first_ten(refused)}; rename them"
        )


def list_folder(folder):
    """Lists a folder and the folders below it; links to folders are not followed.

    Args:
        folder: str, path of the folder.

    Returns:
        `FolderContents`.

    Raises:
        InputError: it is not a folder, or cannot be read.

    Example:

    ```python
    list_folder("photos").images  # ["glass/1.jpg", "metal/2.heic"]
    ```
    """
    check_folder(folder)
    contents = FolderContents([], [], [], [], [])

    def note_unreadable(error):
        contents.unreadable.append((os.path.relpath(error.filename, folder), error.strerror))

    for parent, subfolders, file_names in os.walk(folder, onerror=note_unreadable):
        # A prefix to put before names: joining paths would take most of the time.
        relative_parent = os.path.relpath(parent, folder)
        prefix = "" if relative_parent == os.curdir else relative_parent + os.sep
        subfolders[:] = sorted(name for name in subfolders if not is_system_name(name))
        contents.links.extend(
            prefix + name for name in subfolders if os.path.islink(os.path.join(parent, name))
        )
        image_count = len(contents.images)
        for name in file_names:
            if not is_system_name(name):
                (contents.images if is_image(name) else contents.others).append(prefix + name)
        if prefix and len(contents.images) == image_count and not subfolders:
            contents.empty_folders.append(relative_parent)
    contents.images.sort()
    contents.others.sort()
    return contents


def check_folder(folder):
    """Refuses what is not a folder that can be read.

    Args:
        folder: str, its path.

    Raises:
        InputError: it does not exist, is a file, or cannot be read.
    """
    try:
        os.scandir(folder).close()
    except FileNotFoundError:
        raise InputError(f"{folder}: no such folder") from None
    except NotADirectoryError:
        raise InputError(f"{folder}: is a file; a folder is needed") from None
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {error.strerror}") from None


def describe_left_out(names):
    """Counts files that are not read, by kind.

    Args:
        names: iterable of str, file names or paths.

    Returns:
        str, for example "1 video, 2 other files left out"; "" where there are none.

    Example:
        >>> describe_left_out(["a.mov", "b.MP4", "notes.docx"])
        '2 video, 1 other file left out'
    """
    kind_of_extension = {
        extension: kind for kind, extensions in OTHER_KINDS.items() for extension in extensions
    }
    counts = Counter(kind_of_extension.get(os.path.splitext(name)[1].lower()) for name in names)
    parts = [f"{counts[kind]:,} {kind}" for kind in OTHER_KINDS if counts[kind]]
    if counts[None]:
        parts.append(f"{counts[None]:,} other file{'s' if counts[None] > 1 else ''}")
    return ", ".join(parts) + " left out" if parts else ""


def describe_unsorted(folder):
    """Says that photos without a class are not read.

    Args:
        folder: str, a data set's folder.

    Returns:
        str, "" where it has none.
    """
    return f"{UNSORTED} left out" if os.path.isdir(os.path.join(folder, UNSORTED)) else ""


def find_images(patterns):
    """Finds the image files that paths, folders and patterns name.

    What a folder holds that is no image is counted in a line on standard error.

    Args:
        patterns: list of str: paths of files, taken whatever their extension; folders, of which
            the files with one of `EXTENSIONS` are taken, in the folders below as well; patterns
            with `*`, `?`, `[...]` or `**`.

    Returns:
        List of str, the paths in the order of the patterns, without duplicates.

    Raises:
        InputError: a pattern names no image.

    Example:

    ```python
    find_images(["photo.jpg", "photos", "more/**/*.png"])
    ```
    """
    image_paths = {}
    for pattern in patterns:
        if os.path.isdir(pattern):
            matches = walk_images(pattern, "--image")
        elif os.path.exists(pattern):  # also a file with brackets in its name
            matches = [pattern]
        else:
            matches = sorted(glob.glob(pattern, recursive=True))
            matches = [path for path in matches if os.path.isfile(path)]
        if not matches:
            raise InputError(f"--image: {pattern}: no such image")
        image_paths.update(dict.fromkeys(matches))
    return list(image_paths)


def walk_images(folder, option="--source"):
    """Finds the image files in a folder and in the folders below it; links are not followed.

    What is left out is counted in a line on standard error; label files are not.

    Args:
        folder: str, path of the folder.
        option: str, what errors call it.

    Returns:
        List of str, the sorted paths of the files with one of `EXTENSIONS`.

    Raises:
        InputError: it is not a folder, a part of it cannot be read, or it has no images.
    """
    try:
        contents = list_folder(folder)
        check_images(folder, contents)
    except InputError as error:
        raise InputError(f"{option}: {error}") from None
    others = (
        name
        for name in contents.others
        if not name.endswith(".txt") and os.path.basename(name) not in OWN_FILES
    )
    left_out = [*filter(None, [describe_left_out(others), describe_unsorted(folder)])]
    if left_out:
        say(f"{folder}: {', '.join(left_out)}")
    return [os.path.join(folder, name) for name in contents.images]


def check_images(folder, contents):
    """Refuses a folder without images, or of which a part cannot be read.

    Args:
        folder: str, its path.
        contents: `FolderContents`, what `list_folder` returned for it.

    Raises:
        InputError: says what was looked for, and what it holds instead.
    """
    if contents.unreadable:
        name, reason = contents.unreadable[0]
        raise InputError(f"{os.path.join(folder, name)}: cannot be read: {reason}")
    if contents.images:
        return
    hints = [describe_left_out(contents.others)]
    if contents.links:
        hints.append(
            f"{len(contents.links)} links to folders, which are not followed (name the folder "
            f"that they lead to): {first_ten(contents.links)}"
        )
    hint = "; ".join(filter(None, hints))
    raise InputError(
        f"{folder}: no images; looked for {', '.join(EXTENSIONS)}" + (f"; {hint}" if hint else "")
    )
