"""How each layout of a data set writes a class down, as moves and edits of files.

`data.labelled_data` reads the same three layouts.
"""

import abc
import os

from common.errors import InputError
from data import csv_labels
from data.class_spelling import natural_key, normalize
from data.csv_rows import CsvRows
from data.file_steps import Edit, Move, read_bytes
from data.image_files import EXTENSIONS, REMOVED, UNSORTED, is_image, is_system_name, list_folder
from data.label_names import find_labels, label_names_json, read_label_names
from data.labelled_data import has_own_images, is_sample_format
from data.packed_places import refuse_place
from data.samples import check_stems, read_label, sample_line, stem, text_file_name

NO_CLASS, SET_ASIDE = None, REMOVED  # in place of the name of a class


def open_layout(data):
    """Finds out how a data set says the classes of its photos.

    Args:
        data: str, a folder or a CSV file.

    Returns:
        `FolderLayout`, `TextLayout` or `CsvLayout`.

    Raises:
        InputError: it cannot be read.
    """
    refuse_place(data, "label")
    if os.path.isfile(data):
        return CsvLayout(data)
    if has_own_images(data) and is_sample_format(data):
        return TextLayout(data)
    return FolderLayout(data)


class Layout(abc.ABC):
    """What the layouts share.

    Attributes:
        root: str, the folder that all paths are relative to.
        data: str, the data set, as it was given.

    Args:
        data: str, the folder or CSV.
    """

    def __init__(self, data):
        self.data = data
        self.root = os.path.dirname(os.path.abspath(data)) if os.path.isfile(data) else data

    def scan(self):
        """Reads which photos there are.

        Returns:
            dict of path (relative to `root`, with "/") -> name of its class, `NO_CLASS` or
            `SET_ASIDE`.

        Raises:
            InputError: the data set is damaged.
        """
        photos = self._scan_labelled()
        for folder, state in ((UNSORTED, NO_CLASS), (REMOVED, SET_ASIDE)):
            if os.path.isdir(os.path.join(self.root, folder)):
                names = _images(os.path.join(self.root, folder))
                for name in names:  # a CSV may name a photo in there
                    photos.setdefault(f"{folder}/{name}".replace(os.sep, "/"), state)
        return photos

    def class_names(self, used_names, offered_names=()):
        """The names of the classes, in the order of their ids: list of str.

        Args:
            used_names: set of str, the classes that photos have.
            offered_names: iterable of str, classes to offer although no photo has them.
        """
        fixed_names = self._fixed_names()
        new_names = {*used_names, *offered_names} - {*fixed_names}
        return [*fixed_names, *sorted(new_names, key=natural_key)]

    def plan(self, photos, class_name, class_names):
        """The changes that give photos a class.

        Args:
            photos: dict of path -> class that they have, likewise.
            class_name: str, `NO_CLASS` or `SET_ASIDE`.
            class_names: list of str, all classes with the new one, in their order.

        Returns:
            (list of `Move`, list of `Edit`), a move for each photo that gets another path.

        Raises:
            InputError: a photo cannot be moved, or its name not be written down.
            OSError: a file cannot be read.
        """
        free, moves = FreeNames(self.root), []
        for path in photos:
            folder = self._folder(path, class_name)
            if folder != os.path.dirname(path):
                self._check_link(path, folder)
                moves.append(Move(path, free.take(folder, os.path.basename(path))))
        return moves, self._edits(photos, class_name, class_names, dict(moves))

    def rename(self, photos, name, new_name, class_names):
        """The changes that give a class another name, or make it a part of another class.

        Args:
            photos: dict, all photos, as `scan` returns.
            name, new_name: str.
            class_names: list of str, all classes after it, in their order.

        Returns:
            (list of `Move`, list of `Edit`, list of str, folders that are left empty).

        Raises:
            InputError, OSError: as of `plan`.
        """
        members = {path: name for path, own_name in photos.items() if own_name == name}
        return *self.plan(members, new_name, class_names), []

    def _names_edit(self, class_names):
        """The edit of the folder's label.json: list of one or none."""
        content = read_bytes(os.path.join(self.root, "label.json"))
        new_content = label_names_json(class_names).encode()
        if content == new_content:
            return []
        return [Edit.between("label.json", content, new_content)]

    def _check_link(self, path, new_folder):
        """Refuses a photo that is a link and would lead nowhere from another folder."""
        link_path = os.path.join(self.root, path)
        if not os.path.islink(link_path) or not os.path.exists(link_path):
            return
        target = os.path.join(os.path.abspath(self.root), new_folder, os.readlink(link_path))
        if not os.path.exists(os.path.normpath(target)):
            raise InputError(
                f"{path}: is a link relative to its folder, and would lead nowhere from another; "
                "put the photo itself in its place"
            )

    def _fixed_names(self):
        """The names whose order is written down: list of str."""
        return []

    @abc.abstractmethod
    def _scan_labelled(self):
        """As `scan`, without the folders of photos that have no class or were set aside."""

    @abc.abstractmethod
    def _edits(self, photos, class_name, class_names, new_paths):
        """The edits of files beside the photos: list of `Edit`; arguments as of `plan`."""

    def _folder(self, path, class_name):
        """The folder in which a photo of the class lies."""
        if class_name in (NO_CLASS, SET_ASIDE):
            state_folder = UNSORTED if class_name is NO_CLASS else REMOVED
            is_inside = path.startswith(f"{state_folder}/")
            return os.path.dirname(path) if is_inside else state_folder
        return os.path.dirname(path) if self._is_placed(path) else ""

    def _is_placed(self, path):
        return not path.startswith((f"{UNSORTED}/", f"{REMOVED}/"))


class FolderLayout(Layout):
    """One folder per class; photos beside these folders have none yet."""

    def _scan_labelled(self):
        paths = (name.replace(os.sep, "/") for name in _images(self.root))
        photos, folders = {}, {}
        for path in paths:
            folder = os.path.dirname(path)
            photos[path] = normalize(folder) if folder else NO_CLASS
            if folder:
                folders.setdefault(normalize(folder), folder)
        # name of a class -> its folder, as it is spelled; whole, because others look into it
        self._folders = folders
        return photos

    def _fixed_names(self):
        path = os.path.join(self.root, "label.json")
        return _read_names(path) if os.path.exists(path) else []

    def _folder(self, path, class_name):
        if class_name in (NO_CLASS, SET_ASIDE):
            return super()._folder(path, class_name)
        return self._folders.get(class_name, class_name)

    def _edits(self, photos, class_name, class_names, new_paths):
        path = os.path.join(self.root, "label.json")
        if class_name in (NO_CLASS, SET_ASIDE) or not os.path.exists(path):
            return []
        return [] if class_name in _read_names(path) else self._names_edit(class_names)

    def rename(self, photos, name, new_name, class_names):
        """As of `Layout`: the photos move, and the folder of the class goes."""
        members = {path: name for path, own_name in photos.items() if own_name == name}
        moves, _ = self.plan(members, new_name, class_names)
        has_names = os.path.exists(os.path.join(self.root, "label.json"))
        edits = self._names_edit(class_names) if has_names else []
        return moves, edits, sorted({os.path.dirname(path) for path in members})


class TextLayout(Layout):
    """The sample format: a text file beside each photo; those without one have no class yet."""

    def _scan_labelled(self):
        labels_path = find_labels(self.root)
        names = _read_names(labels_path)
        photos = {}
        file_names = [name for name in os.listdir(self.root) if is_image(name)]
        file_names = sorted((n for n in file_names if not is_system_name(n)), key=stem)
        check_stems(self.root, file_names)
        for file_name in file_names:
            try:
                photos[file_name] = names[read_label(self.root, file_name, names, labels_path)]
            except FileNotFoundError:
                photos[file_name] = NO_CLASS
        return photos

    def _fixed_names(self):
        """As of `Layout`: those of label.json, the folder's or the project's."""
        return _read_names(find_labels(self.root))

    def _edits(self, photos, class_name, class_names, new_paths):
        edits = []
        if class_name not in (NO_CLASS, SET_ASIDE) and class_name not in self._fixed_names():
            edits += self._names_edit(class_names)
        for path in photos:
            new_path = new_paths.get(path, path)
            old_text, new_text = text_file_name(path), text_file_name(new_path)
            old_content = read_bytes(os.path.join(self.root, old_text))
            content = None
            if class_name not in (NO_CLASS, SET_ASIDE):
                content = _line(new_path, class_name, class_names)
            if old_text != new_text and old_content is not None:
                edits.append(Edit.between(old_text, old_content, None))
                old_content = None
            if old_content != content:
                edits.append(Edit.between(new_text, old_content, content))
        return edits

    def rename(self, photos, name, new_name, class_names):
        """As of `Layout`: the ids of the classes behind one that goes move up."""
        old_names = self._fixed_names()
        edits = self._names_edit(class_names)
        for path, own_name in photos.items():
            if own_name in (NO_CLASS, SET_ASIDE):
                continue
            new_own_name = new_name if own_name == name else own_name
            if old_names.index(own_name) != class_names.index(new_own_name):
                text_name = text_file_name(path)
                content = read_bytes(os.path.join(self.root, text_name))
                new_content = _line(path, new_own_name, class_names)
                edits.append(Edit.between(text_name, content, new_content))
        return [], edits, []


class CsvLayout(Layout):
    """A CSV of paths and labels."""

    def _scan_labelled(self):
        images = csv_labels.read_csv(self.data, allow_empty=True)
        paths = (name.replace(os.sep, "/") for name in images.file_names)
        photos = {path: normalize(name) for path, name in zip(paths, images.image_classes)}
        self._named_paths = {*photos}
        return photos

    def _is_placed(self, path):
        return path in self._named_paths or super()._is_placed(path)

    def _edits(self, photos, class_name, class_names, new_paths):
        rows = CsvRows(self.data)
        changed, added = {}, []
        is_class = class_name not in (NO_CLASS, SET_ASIDE)
        for path in photos:
            new_path = new_paths.get(path, path)
            has_row = rows.label(path) is not None
            if has_row:
                changed[path] = class_name if is_class else None
            elif is_class:
                _encode(new_path)
                added.append((new_path, class_name))
        return [rows.edit(changed, added)] if changed or added else []


class FreeNames:
    """Names that no photo has yet, nor another one beside it with which it would share a text file.

    Args:
        root: str, the folder that all are relative to.
    """

    def __init__(self, root):
        self._root = root
        self._taken = set()  # paths without extension

    def take(self, folder, file_name):
        """A path in a folder: the file's own name, or with -2, -3 and so on before the extension.

        Args:
            folder: str, relative to the root, with "/".
            file_name: str.

        Returns:
            str, relative to the root.
        """
        first, extension = os.path.splitext(f"{folder}/{file_name}" if folder else file_name)
        name, suffix = first, 2
        while _key(name) in self._taken or self._exists(name, extension):
            name, suffix = f"{first}-{suffix}", suffix + 1
        self._taken.add(_key(name))
        return name + extension

    def _exists(self, name, own_extension):
        # Not by listing the folder: it may hold a million.
        path = os.path.join(self._root, name)
        extensions = {own_extension, ".txt", *EXTENSIONS, *map(str.upper, EXTENSIONS)}
        return any(os.path.lexists(path + extension) for extension in extensions)


def _images(folder):
    """The images in a folder; refuses one of which a part cannot be read, as others do."""
    contents = list_folder(folder)
    if contents.unreadable:
        name, reason = contents.unreadable[0]
        raise InputError(f"{os.path.join(folder, name)}: cannot be read: {reason}")
    return contents.images


def _read_names(path):
    """The names of a label.json in the spelling that the photos' classes have: list of str."""
    return list(map(normalize, read_label_names(path)))


def _line(path, class_name, class_names):
    return _encode(sample_line(os.path.basename(path), class_names.index(class_name)))


def _encode(text):
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{text.strip()!r}: a file name that is not UTF-8 cannot be written down; rename the "
            "photo"
        ) from None


def _key(name):
    """Equal for names that are one and the same on some systems."""
    return normalize(name).casefold()
