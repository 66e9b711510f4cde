"""What an audit can find, and findings.csv, the table in which it says so."""

import itertools
import os
import stat

from common.errors import InputError, first_ten
from common.tables import read_table, write_table

COLUMNS = ("path", "kind", "severity", "group", "class", "detail", "action")
# The actions of a row: what clean removes, what a person converts; or an empty cell
REMOVE, CONVERT = "remove", "convert"

# Limits of an ordinary image
HUGE = 50_000_000  # pixels; decoding one takes as long as a hundred photos
SMALLEST = 32  # pixels of a side, the minimum that a backbone takes
LONGEST = 5  # times the other side

# kind -> severity, what it means; in the order of the page
KINDS = {
    "bad_label_json": ("error", "The class names cannot be used: correct label.json."),
    "unreadable": ("error", "The file cannot be opened."),
    "empty": ("error", "The file has no bytes."),
    "undecodable": ("error", "The file cannot be decoded as an image."),
    "truncated": ("error", "The end of the file is missing."),
    "unsupported": (
        "error",
        "The file is intact, but of a kind or size that is not read: convert it.",
    ),
    "name_not_utf8": ("error", "No text file can name the image: rename the image."),
    "line_break_in_name": (
        "error",
        "No text file or table can hold the image's name: rename the image.",
    ),
    "two_images_one_stem": ("error", "Images share one text file: rename or remove all but one."),
    "missing_text": ("error", "The image has no text file and therefore no class."),
    "orphan_text": ("error", "The text file has no image."),
    "bad_label": ("error", "The text file does not name the image and a class."),
    "conflicting_labels": (
        "error",
        "The same picture has two classes: at least one label is wrong.",
    ),
    "leak": (
        "error",
        "The picture is in the training data and in the validation data, so validation measures "
        "memorization.",
    ),
    "wrong_extension": ("warning", "Other programs may refuse the file: rename it."),
    "corrupt_data": (
        "warning",
        "The file can be decoded although its data are damaged: check whether the picture is "
        "complete.",
    ),
    "exact_duplicate": ("warning", "The same file appears more than once."),
    "near_duplicate": (
        "warning",
        "The same picture in another size, format, quality or brightness, mirrored or cropped a "
        "little.",
    ),
    "animated": ("warning", "Only the first picture of the file is used."),
    "huge": ("warning", f"More than {HUGE // 10**6} million pixels: slow to read."),
    "tiny": ("warning", f"A side has fewer than {SMALLEST} pixels."),
    "extreme_shape": ("warning", f"One side is more than {LONGEST} times as long as the other."),
    "blank": ("warning", "All pixels have the same colour."),
    "outside_link": ("warning", "The link leads out of the folder: a copy would be incomplete."),
    "class_spelling": (
        "warning",
        "Class names that differ only in upper and lower case, blanks or the form of accents.",
    ),
    "empty_class": ("warning", "The class has no images."),
    "only_in_validation": ("warning", "The class has validation images but no training images."),
    "damaged_metadata": (
        "note",
        "Something beside the picture is damaged, such as EXIF, a text or the mark of the end: the "
        "picture is intact.",
    ),
    "odd_mode": ("note", "The colours of the file are converted as the detail says."),
    "not_an_image": ("note", "The file is ignored."),
}
# Kinds that clean may remove without asking a person; duplicates are judged one by one
REMOVED = ("empty", "undecodable", "truncated", "orphan_text")


class Findings:
    """The rows of findings.csv, in the order in which they were found.

    Attributes:
        rows: list of dict with the keys `COLUMNS`.
        groups: iterator over the numbers of groups, from 1.

    Example:

    ```python
    findings = Findings()
    findings.add("empty", "photos/1.jpg", "has no bytes", label="glass")
    write_findings("findings.csv", findings.sorted_rows())
    ```
    """

    def __init__(self):
        self.rows = []
        self.groups = itertools.count(1)

    def add(self, kind, path, detail, group="", label=None, remove=None):
        """Adds a row.

        Args:
            kind: str, a key of `KINDS`.
            path: str, the absolute path of the file.
            detail: str, what is wrong with it, in words for a person.
            group: int, the number of the files that belong together, or "".
            label: str, the name of the image's class, or None.
            remove: bool, whether to propose removing the file; None for what the kind says.
        """
        remove = kind in REMOVED if remove is None else remove
        severity = KINDS[kind][0]
        action = REMOVE if remove else CONVERT if kind == "unsupported" else ""
        values = (path, kind, severity, group, label or "", detail, action)
        self.rows.append(dict(zip(COLUMNS, values)))

    def sorted_rows(self):
        """The rows by kind, in the order of `KINDS`, then group and path."""
        order = {kind: index for index, kind in enumerate(KINDS)}
        return sorted(
            self.rows, key=lambda row: (order[row["kind"]], row["group"] or 0, row["path"])
        )


def write_findings(path, rows):
    """Writes findings.csv.

    Args:
        path: str, the file to write.
        rows: list of dict with the keys `COLUMNS`.
    """
    write_table(path, COLUMNS, ([row[name] for name in COLUMNS] for row in rows))


def read_removals(path):
    """Reads which files a findings.csv says to remove; a person may have edited it.

    Args:
        path: str, a CSV with the columns path and action.

    Returns:
        List of str, the absolute paths of the rows whose action is `REMOVE`, each path once. What
        is to be converted stays.

    Raises:
        InputError: another action, a path that is not a file, or a file that does not exist.
    """
    removals, missing_paths = {}, []
    for location, row in read_table(path, ("path", "action"), "audit"):
        action = row["action"].strip()
        if action not in ("", REMOVE, CONVERT):
            raise InputError(
                f"{location}: action {action!r} is not allowed; allowed are {REMOVE}, {CONVERT} "
                "or nothing"
            )
        if action != REMOVE:
            continue
        if "\0" in row["path"]:
            raise InputError(f"{location}: {row['path']!r} is not a path")
        folder, file_name = os.path.split(row["path"])
        # One spelling for all paths of a file; but a link is the file, not what it leads to.
        file_path = os.path.join(os.path.realpath(folder), file_name)
        try:
            file_mode = os.lstat(file_path).st_mode
        except (OSError, ValueError):
            missing_paths.append(row["path"])
            continue
        if not file_name or not (stat.S_ISREG(file_mode) or stat.S_ISLNK(file_mode)):
            raise InputError(
                f"{location}: {row['path']!r} is not a file; only files can be removed"
            )
        removals[file_path] = None
    if missing_paths:
        raise InputError(
            f"{path}: {len(missing_paths)} files do not exist any more, nothing was changed; run "
            f"the audit again: {first_ten(missing_paths)}"
        )
    return list(removals)
