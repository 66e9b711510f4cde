"""Where the label of a photo is written, and how it is changed there.

In a text file beside the photo, in the folder that it lies in, or in a row of a CSV:
`data.labelled_data` reads the same three. Each change goes into `data.label_journal`.
"""

import itertools
import os
from typing import NamedTuple

from common.errors import InputError
from common.files import write_text
from data import csv_labels, label_journal
from data.class_spelling import normalize
from data.label_names import check_labels
from data.packed_places import refuse_packed
from data.samples import read_samples, sample_line, text_file_name
from data.splitting import hash_files


class Change(NamedTuple):
    """A label to correct.

    Attributes:
        path: str, the image, as the user names it.
        label: str, name of the class that it has.
        new_label: str, name of the class that it gets.
        image: str, path of the image before the change.
        new_image: str, path of the image after it; another one where its folder says its class.
        target: str, the text file, folder or CSV that is changed.
        content: str, what the text file will hold; None where there is none.
        root: str, the folder of the data set, which the journal lies in.
    """

    path: str
    label: str
    new_label: str
    image: str
    new_image: str
    target: str
    content: str | None
    root: str


class LabelPlaces:
    """Plans changes of labels, each checked against the data; nothing is written.

    Args:
        class_names: list or tuple of str, in the order of their ids.
        labels_path: str, what errors call the place of the names.
        csv_path: str, the CSV that says the classes, or None.

    Example:

    ```python
    places = LabelPlaces(("glass", "metal"), "label.json")
    change = places.plan("photos/glass/1.jpg", "glass", "metal", "table.csv:2")
    apply(change)  # now the photo is photos/metal/1.jpg
    ```
    """

    def __init__(self, class_names, labels_path, csv_path=None):
        self.ids_by_name = {name: class_id for class_id, name in enumerate(class_names)}
        self.class_names = class_names
        self.labels_path = labels_path
        self.csv_path = csv_path
        self._folder_ids = {}  # folder -> file name -> class id, of the sample format
        self._csv_classes = self._read_csv_classes()
        self._new_images = set()

    def _read_csv_classes(self):
        if self.csv_path is None:
            return {}
        folder, file_names, image_classes = csv_labels.read_csv(self.csv_path)
        return {
            os.path.realpath(os.path.join(folder, name)): normalize(image_class)
            for name, image_class in zip(file_names, image_classes)
        }

    def plan(self, image_path, label, new_label, location, written_path=None):
        """The change of one label.

        Args:
            image_path: str.
            label: str, the class that the image should have now.
            new_label: str, the class that it gets.
            location: str, `FILE:LINE` for errors.
            written_path: str, what errors call the image; default: its path.

        Returns:
            `Change`; None where the image has the new label already.

        Raises:
            InputError: the image is missing, or has another label.
        """
        written_path = written_path or image_path
        refuse_packed(image_path, "relabel")
        if self.csv_path is not None:
            return self._plan_row(image_path, label, new_label, location, written_path)
        if os.path.exists(text_file_name(image_path)):
            return self._plan_text(image_path, label, new_label, location, written_path)
        return self._plan_move(image_path, label, new_label, location, written_path)

    def _plan_row(self, image_path, label, new_label, location, written_path):
        current_label = self._csv_classes.get(os.path.realpath(image_path))
        if current_label is None:
            raise InputError(f"{location}: {written_path!r} is not in {self.csv_path}")
        if current_label == normalize(new_label):
            return None
        _check_current(current_label, normalize(label), location, written_path)
        root = os.path.dirname(os.path.abspath(self.csv_path))
        return Change(
            written_path, label, new_label, image_path, image_path, self.csv_path, None, root
        )

    def _plan_text(self, image_path, label, new_label, location, written_path):
        folder, file_name = os.path.split(image_path)
        folder = os.path.realpath(folder)
        if folder not in self._folder_ids:
            self._folder_ids[folder] = self._read_class_ids(folder, location)
        if file_name not in self._folder_ids[folder]:
            raise _missing(location, written_path)
        current_label = self.class_names[self._folder_ids[folder][file_name]]
        if current_label == new_label:
            return None
        _check_current(current_label, label, location, written_path)
        text_path = text_file_name(image_path)
        content = sample_line(file_name, self.ids_by_name[new_label])
        return Change(
            written_path, label, new_label, image_path, image_path, text_path, content, folder
        )

    def _plan_move(self, image_path, label, new_label, location, written_path):
        root = _root(image_path, label)
        if root is None:
            if not os.path.exists(image_path):
                raise _missing(location, written_path)
            raise InputError(
                f"{location}: {written_path!r} has no label file (.txt) and does not lie in a "
                f"folder {label!r}; if a CSV says its class, give it with --data; if it was moved "
                "since the table was made, make the report again"
            )
        folder, file_name = _class_folder(root, new_label), os.path.basename(image_path)
        if not os.path.lexists(image_path):
            if os.path.exists(os.path.join(folder, file_name)):  # an earlier start moved it
                return None
            raise _missing(location, written_path)
        if os.path.islink(image_path):
            raise InputError(f"{location}: {written_path!r} is a link; move it by hand")
        new_image = self._free(os.path.join(folder, file_name))
        return Change(written_path, label, new_label, image_path, new_image, folder, None, root)

    def _free(self, path):
        """`path`, or with a number in front of the extension where something has that name."""
        stem, extension = os.path.splitext(path)
        number = 1
        while os.path.lexists(path) or path in self._new_images:
            number += 1
            path = f"{stem}-{number}{extension}"
        self._new_images.add(path)
        return path

    def _read_class_ids(self, folder, location):
        """The class id of each image of a folder, by file name."""
        try:
            check_labels(folder, self.class_names, self.labels_path)
            samples = read_samples(folder, self.class_names, self.labels_path)
        except InputError as error:
            raise InputError(f"{location}: {error}") from None
        return dict(zip(samples.file_names, samples.class_ids))


def _check_current(current_label, label, location, written_path):
    if current_label != label:
        raise InputError(
            f"{location}: {written_path!r} has the label {current_label!r} now, not {label!r}: it "
            "was changed since the table was made; make the report again"
        )


def _missing(location, written_path):
    return InputError(f"{location}: {written_path!r} is no image file of its folder")


def _root(image_path, label):
    """The folder that the folder of the class lies in, or None where `label` is another class."""
    folder = os.path.dirname(os.path.abspath(image_path))
    for part in reversed(normalize(label).split("/")):
        folder, name = os.path.split(folder)
        if normalize(name) != part:
            return None
    return folder


def _class_folder(root, label):
    """The folder of a class, as it is spelled where it is there already."""
    folder = root
    for part in label.split("/"):
        names = os.listdir(folder) if os.path.isdir(folder) else []
        same = [name for name in sorted(names) if normalize(name) == normalize(part)]
        folder = os.path.join(folder, same[0] if same else part)
    return folder


def apply(change):
    """Changes one label where it is written, and journals it.

    Args:
        change: `Change`.

    Raises:
        OSError: it cannot be written, and is as it was.
    """
    if change.content is not None:
        # Through a link the file that it leads to is written, and the link stays.
        write_text(os.path.realpath(change.target), change.content)
    elif change.new_image != change.image:
        os.makedirs(change.target, exist_ok=True)
        os.rename(change.image, change.new_image)
    else:
        csv_labels.relabel(change.target, change.image, change.new_label)
    log_path = os.path.join(change.root, label_journal.FILE_NAME)
    if _is_row(change):
        log_path = label_journal.path_beside(change.target)
    label_journal.add(log_path, change.new_image, change.label, change.new_label)


def apply_all(changes, workers=1):
    """Changes labels one after the other; those of the same CSV that follow on another at once.

    Args:
        changes: list of `Change`.
        workers: int, threads that read the photos of a CSV.

    Yields:
        int, how many of them are changed and journalled now, after each write.

    Raises:
        OSError: a label cannot be written; the one after those that were changed.
    """
    changed_count = 0
    places = itertools.groupby(changes, lambda change: _is_row(change) and change.target)
    for csv_path, group in places:
        if csv_path:
            rows = list(group)
            _apply_rows(csv_path, rows, workers)
            changed_count += len(rows)
            yield changed_count
            continue
        for change in group:
            apply(change)
            changed_count += 1
            yield changed_count


def _apply_rows(csv_path, changes, workers):
    """Changes rows of a CSV in one write, and journals them in another right after it."""
    images = [change.image for change in changes]
    contents = hash_files(images, workers)  # before: reading photos takes time
    csv_labels.relabel_all(csv_path, {change.image: change.new_label for change in changes})
    corrections = [(change.image, change.label, change.new_label) for change in changes]
    label_journal.add_all(label_journal.path_beside(csv_path), corrections, contents)


def _is_row(change):
    """Whether a change is that of a row of a CSV."""
    return change.content is None and change.new_image == change.image
