"""Which files are images, and finding them."""

import glob
import os

from common.errors import InputError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff")


def find_images(patterns):
    """The image files that paths, folders and patterns name, each once, in order.

    Raises:
        InputError: one of them names nothing.
    """
    found = {}
    for pattern in patterns:
        if os.path.isdir(pattern):
            names = [
                os.path.join(pattern, name)
                for name in sorted(os.listdir(pattern))
                if name.lower().endswith(EXTENSIONS) and not name.startswith(".")
            ]
        elif os.path.exists(pattern):  # also a file with brackets in its name
            names = [pattern]
        else:
            names = sorted(glob.glob(pattern, recursive=True))
            names = [name for name in names if os.path.isfile(name)]
        if not names:
            kinds = f" of the kinds {', '.join(EXTENSIONS)}" if os.path.isdir(pattern) else ""
            raise InputError(f"--image: {pattern}: no such image{kinds}")
        found.update(dict.fromkeys(names))
    return list(found)
