"""label.json: the class names of a data set, written and read here and nowhere else.

It maps class ids to names, from 0 without gaps: `{"0": "cardboard", "1": "glass"}`.
"""

import json
import os
from collections import Counter

from common.errors import InputError, first_ten

# The label.json of the project, in the folder above this package
PROJECT_LABELS = os.path.join(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "label.json"
)


def find_labels(folder):
    """Finds the class names of a folder.

    Args:
        folder: str, a folder of images.

    Returns:
        str, path of the folder's label.json, or of the project's if it has none.
    """
    own_path = os.path.join(folder, "label.json")
    return own_path if os.path.exists(own_path) else PROJECT_LABELS


def read_label_names(path):
    """Reads label.json.

    Args:
        path: str or path of the file.

    Returns:
        Tuple of str, the class names in the order of their ids.

    Raises:
        InputError: not JSON, ids with gaps or duplicates, names empty or duplicate.

    Example:

    ```python
    read_label_names("photos/label.json")  # ("cardboard", "glass")
    ```
    """
    names_by_id = _read_flat_json(path)
    if not isinstance(names_by_id, dict) or not names_by_id:
        raise InputError(
            f'{path}: must map ids to class names, for example {{"0": "cat", "1": "dog"}}'
        )
    class_count = len(names_by_id)
    for class_id in range(class_count):
        if str(class_id) not in names_by_id:
            raise InputError(
                f"{path}: id {class_id} is missing; {class_count} names need the ids 0 to "
                f"{class_count - 1} without gaps, found: {first_ten(sorted(names_by_id))}"
            )
    class_names = tuple(names_by_id[str(class_id)] for class_id in range(class_count))
    first_ids = {}
    for class_id, class_name in enumerate(class_names):
        if not isinstance(class_name, str) or not class_name.strip():
            raise InputError(f"{path}: id {class_id}: {class_name!r} is not a name")
        if first_ids.setdefault(class_name, class_id) != class_id:
            raise InputError(
                f"{path}: {class_name!r} names both id {first_ids[class_name]} and id {class_id}"
            )
    return class_names


def label_names_json(class_names):
    """The text of a label.json.

    Args:
        class_names: list or tuple of str, in the order of their ids.
    """
    names_by_id = {str(class_id): name for class_id, name in enumerate(class_names)}
    return json.dumps(names_by_id, ensure_ascii=False, indent=1) + "\n"


def write_label_names(folder, class_names):
    """Writes label.json.

    Args:
        folder: path of the folder that gets it.
        class_names: list or tuple of str, in the order of their ids.
    """
    with open(os.path.join(folder, "label.json"), "w", encoding="utf-8") as json_file:
        json_file.write(label_names_json(class_names))


def check_labels(folder, class_names, labels_path):
    """Refuses a folder whose own label.json names other classes.

    Args:
        folder: path of the folder; without a label.json it passes.
        class_names: tuple of str, the classes in use.
        labels_path: what errors call the place of `class_names`.

    Raises:
        InputError: the names or their order differ.
    """
    own_path = os.path.join(folder, "label.json")
    if os.path.exists(own_path):
        own_names = read_label_names(own_path)
        if own_names != class_names:
            raise InputError(
                f"{own_path}: names other classes than {labels_path}: {first_ten(own_names)} "
                f"instead of {first_ten(class_names)}"
            )


def _read_flat_json(path):
    """The content of a JSON file in which no id appears twice."""

    def refuse_duplicates(pairs):
        id_counts = Counter(class_id for class_id, _ in pairs)
        duplicates = sorted(class_id for class_id, count in id_counts.items() if count > 1)
        if duplicates:
            raise InputError(
                f"{path}: id {duplicates[0]!r} appears twice; each id may appear only once"
            )
        return dict(pairs)

    try:
        with open(path, encoding="utf-8-sig") as json_file:
            return json.load(json_file, object_pairs_hook=refuse_duplicates)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: is not JSON: {error.msg}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8 text") from None
    except (RecursionError, ValueError):  # for example a number of thousands of digits
        raise InputError(f"{path}: is not a flat JSON object") from None
