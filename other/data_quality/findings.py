"""What an audit can find, and the rows in which it says so."""

import itertools

from other.data_quality import image_checks

COLUMNS = ("path", "kind", "severity", "group", "class", "detail", "action")

# kind -> severity, what it means; in the order of the page
KINDS = {
    "bad_label_json": ("error", "The class names cannot be used: correct label.json."),
    "unreadable": ("error", "The file cannot be opened."),
    "empty": ("error", "The file has no bytes."),
    "undecodable": ("error", "No picture can be made of the file."),
    "truncated": ("error", "The end of the file is missing."),
    "unsupported": ("error", "The file is sound, but not one that is read here: convert it."),
    "name_not_utf8": ("error", "No text file can name the image: rename it."),
    "two_images_one_stem": ("error", "Images share one text file: rename or remove all but one."),
    "missing_text": ("error", "The image has no text file, so no class."),
    "orphan_text": ("error", "The text file has no image."),
    "bad_label": ("error", "The text file does not name the image and a class."),
    "conflicting_labels": ("error", "One picture has two classes: at least one label is wrong."),
    "leak": ("error", "The picture is in training and in validation, which then measures memory."),
    "wrong_extension": ("warning", "Other programs may refuse the file: rename it."),
    "corrupt_data": ("warning", "A picture comes out of damaged data: look whether it is whole."),
    "exact_duplicate": ("warning", "Copies count more than once."),
    "near_duplicate": ("warning", "The same in another size, format or quality."),
    "animated": ("warning", "Only the first picture of the file is used."),
    "huge": ("warning", f"More than {image_checks.HUGE // 10**6} million pixels: slow to read."),
    "tiny": ("warning", f"A side has less than {image_checks.SMALLEST} pixels."),
    "extreme_shape": ("warning", f"One side is over {image_checks.LONGEST} times the other."),
    "blank": ("warning", "All pixels have one colour."),
    "outside_link": ("warning", "The link leads out of the folder: a copy of it is not whole."),
    "empty_class": ("warning", "The class has no images."),
    "only_in_validation": ("warning", "The class has images to validate on, none to train on."),
    "odd_mode": ("note", "The file's colours are read, in the way that the detail says."),
    "not_an_image": ("note", "It is not read."),
}
# What clean may take away without asking a person; copies are judged one by one
REMOVED = ("empty", "undecodable", "truncated", "orphan_text")


class Findings:
    """The rows of findings.csv, in the order they were found."""

    def __init__(self):
        self.rows = []
        self.groups = itertools.count(1)

    def add(self, kind, path, detail, group="", label=None, remove=None):
        """`remove`: whether to propose that, where the kind does not say it."""
        remove = kind in REMOVED if remove is None else remove
        values = (
            path,
            kind,
            KINDS[kind][0],
            group,
            label or "",
            detail,
            "remove" if remove else "",
        )
        self.rows.append(dict(zip(COLUMNS, values)))
