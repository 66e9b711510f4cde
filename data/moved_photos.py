"""Where a photo is now that the page of `--mode label` has moved while others read the folder."""

import functools
import json
import os

from data.image_files import STEPS

MOST_LEVELS = 8  # folders above a photo in which a data set's steps are looked for


def find_moved(path):
    """Follows the steps of the label page.

    Args:
        path: str, of a photo that is not there.

    Returns:
        str, where it is now; None where no step has moved it, or it is gone from there as well.

    Example:

    ```python
    find_moved("photos/_unsorted/1.jpg")  # "photos/glass/1.jpg"
    ```
    """
    folder = os.path.dirname(os.path.abspath(path))
    for _ in range(MOST_LEVELS):
        steps_path = os.path.join(folder, STEPS)
        try:
            state = os.stat(steps_path)
        except OSError:
            folder = os.path.dirname(folder)
            continue
        try:
            moved = _read_moves(steps_path, state.st_size, state.st_mtime_ns)
        except (OSError, ValueError, KeyError):  # damaged: it tells nothing
            return None
        name = os.path.relpath(os.path.abspath(path), folder).replace(os.sep, "/")
        new_path = os.path.join(folder, moved.get(name, name))
        return new_path if os.path.exists(new_path) else None
    return None


@functools.lru_cache(maxsize=1)
def _read_moves(steps_path, size, modified):
    """dict of every path that a photo once had -> the path that it has, both with "/"."""
    begun, moves, first_paths = (
        [],
        {},
        {},
    )  # step -> its moves; path -> the paths that its photo has had

    def apply(pairs):
        for source, target in pairs:
            first_paths.setdefault(target, set()).update({source} | first_paths.pop(source, set()))

    with open(steps_path, "rb") as steps_file:
        for line in steps_file:
            if not line.endswith(b"\n"):
                break
            entry = json.loads(line)
            if "step" in entry:
                begun = moves[entry["step"]] = entry["moves"]
            elif "undo" in entry:
                begun = [(target, source) for source, target in reversed(moves[entry["undo"]])]
            elif "redo" in entry:
                begun = moves[entry["redo"]]
            elif "end" in entry:
                apply(begun)
    return {path: target for target, paths in first_paths.items() for path in paths}
