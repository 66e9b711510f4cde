"""Which files are images, and finding them."""

import glob
import os

from common.errors import InputError

EXTENSIONS = (
    *(".jpg", ".jpeg", ".jfif", ".jpe", ".mpo"),  # all of them JPEGs
    *(".png", ".bmp", ".webp", ".gif", ".tif", ".tiff"),
    *(".heic", ".heif", ".hif", ".avif"),
)


def find_images(patterns):
    """Finds the image files that paths, folders and patterns name.

    Args:
        patterns: list of str: paths of files, taken whatever their extension; folders, of which
            the files with one of `EXTENSIONS` are taken; patterns with `*`, `?`, `[...]` or `**`.

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
            matches = [
                os.path.join(pattern, file_name)
                for file_name in sorted(os.listdir(pattern))
                if file_name.lower().endswith(EXTENSIONS) and not file_name.startswith(".")
            ]
        elif os.path.exists(pattern):  # also a file with brackets in its name
            matches = [pattern]
        else:
            matches = sorted(glob.glob(pattern, recursive=True))
            matches = [path for path in matches if os.path.isfile(path)]
        if not matches:
            kinds = f" of the kinds {', '.join(EXTENSIONS)}" if os.path.isdir(pattern) else ""
            raise InputError(f"--image: {pattern}: no such image{kinds}")
        image_paths.update(dict.fromkeys(matches))
    return list(image_paths)


def walk_images(folder):
    """Finds the image files in a folder and in the folders below it; links are not followed.

    Unlike `find_images` it takes one folder and everything below it.

    Args:
        folder: str, path of the folder.

    Returns:
        List of str, the sorted paths of the files with one of `EXTENSIONS`, hidden ones left out.

    Raises:
        InputError: it is not a folder, or has no images.
    """
    if not os.path.isdir(folder):
        raise InputError(f"--source: {folder}: no such folder")
    image_paths = [
        os.path.join(parent, file_name)
        for parent, _, file_names in os.walk(folder)
        for file_name in file_names
        if file_name.lower().endswith(EXTENSIONS) and not file_name.startswith(".")
    ]
    if not image_paths:
        raise InputError(f"--source: {folder}: no images; looked for {', '.join(EXTENSIONS)}")
    return sorted(image_paths)
