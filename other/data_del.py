"""What is wrong with a data set: broken files, labels, duplicates, leaks. Nothing is changed.

Writes a page to look at and a table with a proposed action for each file, which
`--mode clean` carries out.
"""

import csv
import itertools
import json
import os
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

import preprocess
import samples
from errors import ImageError, InputError
from job import find_labels
from other import image_faults, near_duplicates, page
from other.charts import check_output_folder, output_folder

FILES = ("index.html", "findings.csv")
COLUMNS = ("path", "kind", "severity", "group", "class", "detail", "action")
FOUND = 3  # exit status where there are errors or warnings
SHOWN = 200  # files of a kind on the page
THUMBNAIL = preprocess.Preprocessing(144)
ANY_LABEL = range(10**9)  # where label.json cannot say how many there are

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
    "huge": ("warning", f"More than {image_faults.HUGE // 10**6} million pixels: slow to read."),
    "tiny": ("warning", f"A side has less than {image_faults.SMALLEST} pixels."),
    "extreme_shape": ("warning", f"One side is over {image_faults.LONGEST} times the other."),
    "blank": ("warning", "All pixels have one colour."),
    "outside_link": ("warning", "The link leads out of the folder: a copy of it is not whole."),
    "empty_class": ("warning", "The class has no images."),
    "only_in_validation": ("warning", "The class has images to validate on, none to train on."),
    "odd_mode": ("note", "The file's colours are read, in the way that the detail says."),
    "not_an_image": ("note", "It is not read."),
}
# What clean may take away without asking a person; copies are judged one by one
REMOVED = ("empty", "undecodable", "truncated", "orphan_text")


class Folder(NamedTuple):
    """What stands in a folder, as names relative to it, hidden ones left out.

    Attributes:
        path: as it was given.
        by_class: whether it has a folder a class; else it is in the sample format.
        images, texts, others, unreadable: lists of str; texts only in the sample format.
        empty: class folders without images.
    """

    path: str
    by_class: bool
    images: list
    texts: list
    others: list
    unreadable: list
    empty: list


class Image(NamedTuple):
    """An image of the source (part 0) or of the validation data (part 1).

    `label` is the name of its class, None where that is not known; `look` what
    `image_faults.look` says.
    """

    path: str
    label: str | None
    part: int
    look: image_faults.Look


class Findings:
    """The rows of findings.csv, in the order they were found."""

    def __init__(self):
        self.rows = []
        self.groups = itertools.count(1)

    def add(self, kind, path, detail, group="", label=None, remove=None):
        """`remove`: whether to propose that, where the kind does not say it."""
        remove = kind in REMOVED if remove is None else remove
        values = (path, kind, KINDS[kind][0], group, label or "", detail,
                  "remove" if remove else "")
        self.rows.append(dict(zip(COLUMNS, values)))


def main(options):
    """`--mode audit`.

    Returns:
        0 where nothing worse than a note was found, else `FOUND`.
    """
    check_output_folder(options.target, FILES)
    parts = [("--source", options.source)]
    if options.val_data:
        parts.append(("--val_data", options.val_data))
    folders = [read_folder(path, option) for option, path in parts]
    _check_places(folders, options)
    findings, images, pictures = audit(
        folders, options.labels, options.near_duplicates, options.workers
    )
    order = list(KINDS)
    rows = sorted(findings.rows, key=lambda row: (
        order.index(row["kind"]), row["group"] or 0, row["path"]
    ))
    counts = Counter(row["kind"] for row in rows)
    severities = Counter(row["severity"] for row in rows)
    result = {
        "source": options.source, "val_data": options.val_data, "images": images,
        "counts": counts, "errors": severities["error"], "warnings": severities["warning"],
        "notes": severities["note"],
        "remove": len({row["path"] for row in rows if row["action"]}),
        "findings": os.path.join(options.target, "findings.csv"),
        "page": os.path.join(options.target, "index.html"),
    }
    with output_folder(options.target, FILES) as folder:
        _write_csv(os.path.join(folder, "findings.csv"), rows)
        text = page.render("audit.html", **result, sections=_sections(rows, counts, pictures))
        with open(os.path.join(folder, "index.html"), "w", encoding="utf-8") as file:
            file.write(text)
    print(json.dumps(result, ensure_ascii=False) if options.json else _text(result))
    return FOUND if result["errors"] or result["warnings"] else 0


def read_folder(path, option="--source"):
    """The `Folder` at `path`: with images in it, the sample format; else a folder a class.

    Raises:
        InputError: no folder, or no images; `option` is what errors call it.
    """
    try:
        names = sorted(name for name in os.listdir(path) if not name.startswith("."))
    except OSError as error:
        raise InputError(f"{option}: {path}: {error.strerror}; a folder is needed") from None
    if any(map(_is_image, names)):
        images = [name for name in names if _is_image(name)]
        texts = [name for name in names if not _is_image(name) and samples._is_text(name)]
        others = sorted({*names} - {*images, *texts, "label.json"})
        return Folder(path, False, images, texts, others, [], [])
    folder = Folder(path, True, [], [], [], [], [])
    failed = folder.unreadable
    for parent, below, names in os.walk(
        path, onerror=lambda error: failed.append(os.path.relpath(error.filename, path))
    ):
        place = os.path.relpath(parent, path)
        folder.others.extend(os.path.normpath(os.path.join(place, name)) for name in below
                             if os.path.islink(os.path.join(parent, name)))
        below[:] = sorted(name for name in below if not name.startswith("."))
        names = [name for name in sorted(names) if not name.startswith(".")]
        images = [os.path.join(place, name) for name in names if _is_image(name)]
        folder.images.extend(images)
        folder.others.extend(
            os.path.normpath(os.path.join(place, name)) for name in names
            if not _is_image(name) and (place, name) != (".", "label.json")
        )
        if not images and not below and place != ".":
            folder.empty.append(place)
    if not folder.images:
        raise InputError(
            f"{option}: {path}: no images; looked for {', '.join(preprocess.EXTENSIONS)}, in the "
            "folder or in one folder a class"
        )
    return folder


def _is_image(name):
    return name.lower().endswith(preprocess.EXTENSIONS)


def _inside(path, folder):
    return os.path.realpath(path).startswith(os.path.join(os.path.realpath(folder), ""))


def _check_places(folders, options):
    for folder, option in zip(folders, ("--source", "--val_data")):
        for path in (options.target, options.target + ".old"):
            if _inside(path, folder.path):
                raise InputError(
                    f"--target: {options.target} lies in {option} {folder.path}; name one outside"
                )
    if options.labels and folders[0].by_class:
        raise InputError(f"--labels: {folders[0].path} has a folder a class, which names it")
    if len(folders) == 2:
        one, two = folders
        if os.path.samefile(one.path, two.path):
            raise InputError(f"--val_data: {two.path} is the folder of --source")
        for inner, outer in ((one, two), (two, one)):
            if outer.by_class and _inside(inner.path, outer.path):
                raise InputError(f"--val_data: {inner.path} lies in {outer.path}; each image "
                                 "would be found twice")


def audit(folders, labels_path=None, near=True, workers=1):
    """Looks at every file of one or two folders.

    Args:
        folders: list of `Folder`: the source, then validation data where there are some.
        labels_path: JSON file with the class names, or None for each folder's own.
        near: whether to look for pictures that nearly agree, too.
        workers: threads that decode.

    Returns:
        (`Findings`, number of images, set of the paths that have a picture to show).

    Raises:
        InputError: `labels_path` is not such a file.
    """
    findings = Findings()
    names = _label_names(folders, labels_path, findings)
    labelled = []
    for folder, (own, path) in zip(folders, names):
        _layout(folder, findings)
        if folder.by_class:
            classes = [os.path.dirname(name).replace(os.sep, "/") for name in folder.images]
        else:
            classes = _classes(folder, own, path, findings)
            if own is None and any(each.by_class for each in folders):
                classes = [None] * len(classes)  # numbers, which say nothing beside names
        labelled.append((folder, own, classes))
    _empty_classes(labelled, labels_path, findings)

    named = [(os.path.join(folder.path, name), label, part)
             for part, (folder, _, classes) in enumerate(labelled)
             for name, label in zip(folder.images, classes)]
    images, positions, pictures = [], [], None
    if near:
        pictures = np.empty((len(named), near_duplicates.SIDE, near_duplicates.SIDE, 3), np.uint8)
    with image_faults.hearing_warnings(), ThreadPoolExecutor(workers) as pool:
        looks = pool.map(lambda each: image_faults.look(each[0], near), named)
        bar = tqdm(looks, "looking", len(named), unit=" images", leave=False, disable=None)
        try:
            for (path, label, part), look in zip(named, bar):
                for kind, detail in look.faults:
                    findings.add(kind, path, detail, label=label)
                # A blank picture resembles every other one, and has a finding of its own.
                if look.picture is not None and label is not None and not look.blank:
                    pictures[len(positions)] = look.picture
                    positions.append(len(images))
                images.append(Image(path, label, part, look._replace(picture=None)))
        finally:
            pool.shutdown(cancel_futures=True)
    groups = _exact_groups(images)
    if positions:
        found = near_duplicates.groups(near_duplicates.describe(pictures[: len(positions)]))
        groups.update(zip(positions, (positions[number] for number in found)))
    _copies(images, groups, findings)
    return findings, len(images), {each.path for each in images if each.look.digest}


def _layout(folder, findings):
    """What names and links alone tell."""
    for name in folder.others:
        path = os.path.join(folder.path, name)
        if os.path.isdir(path):
            what = "is a link to a folder" if os.path.islink(path) else "is a folder"
            findings.add("not_an_image", path, f"{what}; nothing in it is looked at")
        else:
            findings.add("not_an_image", path, "is no image by its extension")
    for name in folder.unreadable:
        findings.add("unreadable", os.path.join(folder.path, name), "the folder cannot be read")
    for name in folder.images:
        path = os.path.join(folder.path, name)
        if not _is_utf8(name):
            findings.add("name_not_utf8", path, "has a name that is not UTF-8")
        if os.path.islink(path) and os.path.exists(path) and not _inside(path, folder.path):
            findings.add("outside_link", path, f"leads to {os.path.realpath(path)}")
    if folder.by_class:
        return
    stems = Counter(map(samples._stem, folder.images))
    for name in folder.texts:
        if samples._stem(name) not in stems:
            findings.add("orphan_text", os.path.join(folder.path, name),
                         "no image has its stem")
    shared = defaultdict(list)
    for name in folder.images:
        if stems[samples._stem(name)] > 1:
            shared[samples._stem(name)].append(name)
    for stem, together in shared.items():
        group = next(findings.groups)
        for name in together:
            findings.add("two_images_one_stem", os.path.join(folder.path, name),
                         f"{stem}.txt belongs to {' and '.join(together)}", group)


def _is_utf8(name):
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _label_names(folders, labels_path, findings):
    """[(class names, path they are from)] for each folder.

    The names are None for a folder a class, and where no label.json can be read.
    """
    given = samples.read_label_names(labels_path) if labels_path else None
    found = []
    for folder in folders:
        own = os.path.join(folder.path, "label.json")
        known, known_path = found[0] if found else (given, labels_path)
        if folder.by_class:
            found.append((None, None))
        elif known and (not found or not os.path.exists(own)):
            found.append((known, known_path))
        else:
            names, path = None, find_labels(folder.path)
            try:
                names = samples.read_label_names(path)
                if known:
                    samples.check_labels(folder.path, known, known_path)
            except InputError as error:
                findings.add("bad_label_json", path, _without(str(error), path))
                names = names or known
            found.append((names, path))
    if len(folders) == 2 and not folders[0].by_class and found[0][0] is None:
        found[0] = found[1][0], found[0][1]
    return found


def _without(message, path):
    return message.removeprefix(path).removeprefix(":").strip()


def _classes(folder, names, names_path, findings):
    """The class of each image in the sample format, a number where `names` is None.

    None where its text file does not tell it.
    """
    stems = Counter(map(samples._stem, folder.images))
    classes = []
    for name in folder.images:
        label = None
        told = stems[samples._stem(name)] > 1 or not _is_utf8(name)  # has a finding already
        path = os.path.join(folder.path, name)
        try:
            number = samples._read_label(folder.path, name, names or ANY_LABEL, names_path)
            label = names[number] if names else str(number)
        except FileNotFoundError:
            if not told:
                findings.add("missing_text", path, f"{samples._stem(name)}.txt is not there")
        except InputError as error:
            if not told:
                findings.add("bad_label", path, _without(str(error), folder.path + os.sep))
        classes.append(label)
    return classes


def _empty_classes(labelled, labels_path, findings):
    """`labelled`: for each part its `Folder`, its class names or None, its images' classes."""
    (source, names, classes), *validation = labelled
    there = set(classes)
    validated = Counter(label for _, _, part in validation for label in part if label is not None)
    if names is not None:
        path = labels_path or find_labels(source.path)
        empty = {name: path for name in names if name not in there}
    else:
        empty = {name.replace(os.sep, "/"): os.path.join(source.path, name)
                 for name in source.empty}
    for name, path in empty.items():
        if name not in validated:
            findings.add("empty_class", path, f"{name} has no images", label=name)
    for name, count in validated.items():
        if name not in there:
            findings.add("only_in_validation", validation[0][0].path,
                         f"{name} has {count:,} images to validate on, none to train on",
                         label=name)


def _exact_groups(images):
    """{position: position of the first with the same bytes} of images with a known class."""
    first = {}
    return {
        position: first.setdefault(each.look.digest, position)
        for position, each in enumerate(images) if each.look.digest and each.label is not None
    }


def _copies(images, groups, findings):
    """Findings about pictures that are the same, from `groups`: position -> group."""
    members = defaultdict(list)
    for position, group in sorted(groups.items()):
        members[group].append(images[position])
    for together in members.values():
        if len({each.label for each in together}) > 1:
            _conflict(together, findings)
            continue
        training, validation = ([each for each in together if each.part == part]
                                for part in (0, 1))
        if training and validation:
            group = next(findings.groups)
            for each in together:
                there, others = ("training", training) if each.part else ("validation", validation)
                findings.add("leak", each.path, f"{there} has it too: {others[0].path}", group,
                             each.label, not each.part and _can_go(each, validation))
        else:
            _duplicates(training, findings)
        _duplicates(validation, findings)


def _conflict(together, findings):
    group = next(findings.groups)
    for each in together:
        other = next(one for one in together if one.label != each.label)
        findings.add("conflicting_labels", each.path,
                     f"is {each.label} here and {other.label} as {other.path}", group, each.label)


def _duplicates(together, findings):
    """Copies of one class in one folder: all but the best may go."""
    twins = defaultdict(list)
    for each in together:
        twins[each.look.digest].append(each)
    best = [_keep_best("exact_duplicate", "has the bytes of", each, findings)
            for each in twins.values()]
    if best:
        _keep_best("near_duplicate", "shows the same as", best, findings)


def _keep_best(kind, what, together, findings):
    """The best of `together`; where there are others, findings about all."""
    best = max(together, key=lambda each: (
        not os.path.islink(each.path), each.look.sound, each.look.pixels, each.look.bytes
    ))
    if len(together) > 1:
        group = next(findings.groups)
        for each in together:
            detail = f"{what} {best.path}"
            if each is best:
                detail = f"is the one to keep of {len(together)}"
            findings.add(kind, each.path, detail, group, each.label,
                         each is not best and _can_go(each, [best]))
    return best


def _can_go(image, kept):
    """Whether none of those kept is a link to this file, which would then lead nowhere."""
    return not any(os.path.islink(each.path) and os.path.samefile(each.path, image.path)
                   for each in kept)


def _sections(rows, counts, pictures):
    """For the page: each kind that was found, with its first files, those of a group together."""
    sections = []
    for kind in [kind for kind in KINDS if counts[kind]]:
        shown = list(itertools.islice((row for row in rows if row["kind"] == kind), SHOWN))
        groups = itertools.groupby(
            tqdm(shown, kind, unit=" images", leave=False, disable=None, delay=1),
            key=lambda row: row["group"],
        )
        severity, meaning = KINDS[kind]
        sections.append({
            "kind": kind, "severity": severity, "meaning": meaning, "count": counts[kind],
            "more": counts[kind] - len(shown),
            "groups": [
                [{**row, "picture": _thumbnail(row["path"]) if row["path"] in pictures else None}
                 for row in group]
                for _, group in groups
            ],
        })
    return sections


def _thumbnail(path):
    try:
        with open(path, "rb") as file:
            image = preprocess.decode(file.read(), THUMBNAIL, path)
    except (OSError, ImageError):  # it has gone since
        return None
    height, width = preprocess.target_size(*image.shape[:2], THUMBNAIL)
    if height < image.shape[0]:
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return page.thumbnail(image)


def _write_csv(path, rows):
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def _text(result):
    lines = []
    for kind, (severity, _) in KINDS.items():
        if result["counts"][kind]:
            lines.append(f"{result['counts'][kind]:>8,}  {severity:<7}  {kind}")
    lines.append(f"{result['images']:>8,}  images looked at: {result['errors']:,} errors, "
                 f"{result['warnings']:,} warnings, {result['notes']:,} notes")
    if result["remove"]:
        lines.append(f"{result['remove']:>8,}  files to remove, if you agree: "
                     f"--mode clean --csv {result['findings']}")
    lines.append(f"page: {result['page']}")
    return "\n".join(lines)
