"""What an audit can find, and findings.csv, the table in which it says so."""

import itertools
import os
import stat

from common.errors import InputError, first_ten
from common.tables import read_table, write_table
from data.packed_places import refuse_packed
from pages.text_tables import texts_of

COLUMNS = ("path", "kind", "severity", "group", "class", "detail", "action")
# The actions of a row: what clean removes, what a person converts; or an empty cell
REMOVE, CONVERT = "remove", "convert"

# Limits of an ordinary image
HUGE = 50_000_000  # pixels; decoding one takes as long as a hundred photos
SMALLEST = 32  # pixels of a side, the minimum that a backbone takes
LONGEST = 5  # times the other side

# kind -> severity, in the order of the page, whose texts say what a kind means
KINDS = {
    "bad_label_json": "error",
    "unreadable": "error",
    "empty": "error",
    "undecodable": "error",
    "truncated": "error",
    "unsupported": "error",
    "name_not_utf8": "error",
    "line_break_in_name": "error",
    "two_images_one_stem": "error",
    "missing_text": "error",
    "orphan_text": "error",
    "bad_label": "error",
    "conflicting_labels": "error",
    "leak": "error",
    "split_group": "error",
    "wrong_extension": "warning",
    "corrupt_data": "warning",
    "exact_duplicate": "warning",
    "near_duplicate": "warning",
    "animated": "warning",
    "huge": "warning",
    "tiny": "warning",
    "extreme_shape": "warning",
    "blank": "warning",
    "outside_link": "warning",
    "class_spelling": "warning",
    "empty_class": "warning",
    "only_in_validation": "warning",
    "damaged_metadata": "note",
    "series": "note",
    "odd_mode": "note",
    "not_an_image": "note",
}
# Kinds that clean may remove without asking a person; duplicates are judged one by one
REMOVED = ("empty", "undecodable", "truncated", "orphan_text")


class Detail(str):
    """What is wrong with a file: English in findings.csv, and on the page in the page's language.

    Example:
        >>> detail("class_empty", name="glass")
        'glass has no images'
        >>> detail("class_empty", name="glass").in_language("zh")
        'glass 没有图片'
    """

    def __new__(cls, parts):
        """Takes list of (key after "audit.detail.", dict of values)."""
        made = super().__new__(cls, _joined(parts, "en"))
        made.parts = parts
        return made

    def in_language(self, language):
        """The same in a language of `languages.LANGUAGES`: str."""
        return _joined(self.parts, language)


def _joined(parts, language):
    texts = texts_of(language)
    return texts("page.comma").join(texts(f"audit.detail.{key}", **values) for key, values in parts)


def detail(key, **values):
    """Makes the detail of a finding.

    Args:
        key: str, what follows "audit.detail." in the tables of texts.
        values: what takes the place of the text's placeholders.

    Returns:
        `Detail`.
    """
    return Detail([(key, values)])


class Findings:
    """The rows of findings.csv, in the order in which they were found.

    Attributes:
        rows: list of dict with the keys `COLUMNS`.
        groups: iterator over the numbers of groups, from 1.

    Example:

    ```python
    findings = Findings()
    findings.add("empty", "photos/1.jpg", detail("empty"), label="glass")
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
            detail: `Detail`, what is wrong with it; or str, in the words of a library.
            group: int, the number of the files that belong together, or "".
            label: str, the name of the image's class, or None.
            remove: bool, whether to propose removing the file; None for what the kind says.
        """
        remove = kind in REMOVED if remove is None else remove
        severity = KINDS[kind]
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
        refuse_packed(row["path"], "clean")
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
