"""What is wrong with a data set: broken files, labels, duplicates, leaks. Nothing is changed.

Writes a page to look at and a table with a proposed action for each file, which
`--mode clean` carries out.
"""

import itertools
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from tqdm import tqdm

from common import console, output_places
from common.commands import command_line
from common.errors import InputError
from common.files import write_text
from config.mode_options import AuditOptions
from data import near_duplicates, remote_places
from data.photo_files import absolute
from other.data_quality import duplicates, folder_checks, image_checks, label_checks, series_checks
from other.data_quality.findings import (
    HUGE,
    KINDS,
    LONGEST,
    REMOVE,
    SMALLEST,
    Detail,
    Findings,
    write_findings,
)
from other.data_quality.folder_checks import inside, read_folder
from other.reporting import html_pages
from other.reporting.charts import check_output_folder, output_folder
from pages.languages import choose_language
from pages.rendering import render

PAGE, TABLE = FILES = ("index.html", "findings.csv")
FOUND = 3  # exit status where there are errors or warnings
SHOWN = 100  # files of a kind on the page


class ImageFile(NamedTuple):
    """An image file to look at.

    Attributes:
        path: str.
        label: str, the name of its class, or None where it is not known.
        part: int, 0 for the source, 1 for the validation data.
    """

    path: str
    label: str | None
    part: int


def main(options: AuditOptions):
    """`--mode audit`.

    Returns:
        0 where nothing worse than a note was found, else `FOUND`.
    """
    place = output_places.choose_target(options, source=options.source, val_data=options.val_data)
    options = options._replace(target=place.path)
    rule = series_checks.agreed_rule(options.source, options.group, bool(options.val_data))
    folders = _read_folders(options, rule)
    findings, image_count, decodable_paths = audit(
        folders, options.labels, options.near_duplicates, options.workers
    )
    if rule:
        series_checks.check_groups(folders, rule, findings, options.workers)
    else:
        series_checks.suggest_rule(folders, options.val_data, findings)
    finding_rows = findings.sorted_rows()
    result = _result(options, finding_rows, image_count)
    _write(options, result, finding_rows, decodable_paths)
    place.record()
    console.show(result, _text, options.json)
    return FOUND if result["errors"] or result["warnings"] else 0


def _read_folders(options, rule):
    """The source, then the validation data if any, each a `Folder`; checks the options."""
    check_output_folder(options.target, FILES)
    # Absolute, so that clean finds the same files from whatever folder it is called.
    folders = [read_folder(absolute(options.source), rule=rule)]
    if options.val_data:
        folders.append(read_folder(absolute(options.val_data), "--val_data", rule))
    for folder, option in zip(folders, ("--source", "--val_data")):
        for path in (options.target, options.target + ".old"):
            if not folder.is_csv and inside(path, folder.path):
                raise InputError(
                    f"--target: {options.target} is inside {option} {folder.path}; name a folder "
                    "outside it"
                )
    if options.labels and folders[0].by_class:
        raise InputError(
            f"--labels: {folders[0].source} names the classes itself, by folders or as a CSV; "
            "omit --labels"
        )
    if len(folders) == 2:
        _check_overlap(*folders)
    return folders


def _check_overlap(source, validation):
    """Refuses validation data that are also found in the source."""
    if os.path.samefile(source.source, validation.source):
        raise InputError(
            f"--val_data: {validation.source} is also what --source names; name other images"
        )
    for inner, outer in ((source, validation), (validation, source)):
        if outer.by_class and not outer.is_csv and inside(inner.source, outer.path):
            raise InputError(
                f"--val_data: {inner.path} is inside {outer.path}, so each image would be found "
                "twice; name separate folders"
            )


def audit(folders, labels_path=None, near=True, workers=1):
    """Looks at every file of one or two folders.

    Args:
        folders: list of `Folder`: the source, then the validation data if any.
        labels_path: str, JSON file with the class names, or None for each folder's own.
        near: bool, whether to look for near duplicates, too.
        workers: int, threads that decode.

    Returns:
        (`Findings`, number of images, set of the paths that can be decoded).

    Raises:
        InputError: `labels_path` is not such a file.

    Example:

    ```python
    findings, image_count, _ = audit([read_folder("photos")])
    ```
    """
    findings = Findings()
    for folder in folders:
        folder_checks.check_names(folder, findings)
    labelled = label_checks.read_classes(folders, labels_path, findings)
    label_checks.check_class_counts(labelled, labels_path, findings)
    image_files = [
        ImageFile(os.path.join(part.folder.path, name), label, index)
        for index, part in enumerate(labelled)
        for name, label in zip(part.folder.images, part.image_classes)
    ]
    images, compared, descriptions = _look_at_all(image_files, near, workers, findings)
    _find_duplicates(images, compared, descriptions, findings, workers)
    decodable_paths = {image.path for image in images if image.look.digest}
    return findings, len(images), decodable_paths


def _look_at_all(image_files, near, workers, findings):
    """Decodes every file, adding what is wrong with it.

    Returns:
        (list of `duplicates.Image`, list of the indices of those M to compare with others,
        their `near_duplicates.Descriptions`).
    """
    images, compared = [], []
    descriptions = near_duplicates.empty_descriptions(len(image_files) if near else 0)
    remote_places.announce(image_file.path for image_file in image_files)
    with image_checks.hearing_warnings(), ThreadPoolExecutor(workers) as pool:
        looks = pool.map(lambda image_file: image_checks.look(image_file.path, near), image_files)
        bar = tqdm(looks, "looking", len(image_files), unit=" images", leave=False, disable=None)
        try:
            for index, (image_file, look) in enumerate(zip(image_files, bar)):
                path, label, part = image_file
                for kind, detail in look.faults:
                    findings.add(kind, path, detail, label=label)
                # A blank picture resembles every other one, and has a finding of its own.
                if look.picture is not None and label is not None and not look.blank:
                    description = near_duplicates.describe_one(look.picture)
                    near_duplicates.put(descriptions, len(compared), description)
                    compared.append(index)
                images.append(duplicates.Image(path, label, part, look._replace(picture=None)))
        finally:
            pool.shutdown(cancel_futures=True)
    return images, compared, near_duplicates.first(descriptions, len(compared))


def _find_duplicates(images, compared, descriptions, findings, workers):
    """Adds what images that show the same tell; parameters as `_look_at_all` returns them."""
    groups = duplicates.exact_groups(images)
    if compared:
        first_positions = near_duplicates.groups(descriptions, workers)
        groups.update(zip(compared, (compared[position] for position in first_positions)))
    positions = {images[index].path: position for position, index in enumerate(compared)}

    def alike(one, two):  # some images of a group are alike only through a third
        return one.look.digest == two.look.digest or near_duplicates.alike(
            descriptions, positions[one.path], positions[two.path]
        )

    def differences(one, two):
        if one.look.digest == two.look.digest:
            return []
        return near_duplicates.differences(descriptions, positions[one.path], positions[two.path])

    duplicates.judge(images, groups, findings, alike, differences)


def _result(options, finding_rows, image_count):
    """The result, as `--json` prints it."""
    severities = Counter(row["severity"] for row in finding_rows)
    return {
        "source": options.source,
        "val_data": options.val_data,
        "images": image_count,
        "counts": Counter(row["kind"] for row in finding_rows),
        "errors": severities["error"],
        "warnings": severities["warning"],
        "notes": severities["note"],
        "remove": len({row["path"] for row in finding_rows if row["action"] == REMOVE}),
        "series": next((row["detail"] for row in finding_rows if row["kind"] == "series"), None),
        "findings": os.path.join(options.target, TABLE),
        "page": os.path.join(options.target, PAGE),
    }


def _write(options, result, finding_rows, decodable_paths):
    """Writes the table and the page."""
    folders = [absolute(path) for path in (options.source, options.val_data) if path]
    folders = [os.path.dirname(path) if os.path.isfile(path) else path for path in folders]
    val_data = options.val_data and html_pages.place(options.val_data).short
    language = choose_language(options.lang)

    def make_card(row):
        return _page_card(row, folders, decodable_paths, language)

    limits = {"huge": HUGE // 10**6, "smallest": SMALLEST, "longest": LONGEST}
    with output_folder(options.target, FILES) as folder:
        write_findings(os.path.join(folder, TABLE), finding_rows)
        page = render(
            "audit.html",
            language,
            **{**result, "source": html_pages.place(options.source), "val_data": val_data},
            sections=_page_sections(finding_rows, result["counts"], make_card),
            limits=limits,
            clean_command=command_line("clean", "--csv", result["findings"]),
            label_command=command_line("label", "--data", options.source, "--queue", "audit"),
        )
        write_text(os.path.join(folder, PAGE), page)


def _page_sections(finding_rows, counts, make_card):
    """For the page: the kinds that were found with their first files, those of a group together."""
    sections = []
    for kind in [kind for kind in KINDS if counts[kind]]:
        shown_rows = list(
            itertools.islice((row for row in finding_rows if row["kind"] == kind), SHOWN)
        )
        bar = tqdm(shown_rows, kind, unit=" images", leave=False, disable=None, delay=1)
        sections.append(
            {
                "kind": kind,
                "severity": KINDS[kind],
                "count": counts[kind],
                "more": counts[kind] - len(shown_rows),
                "groups": [
                    [make_card(row) for row in group_rows]
                    for _, group_rows in itertools.groupby(bar, key=lambda row: row["group"])
                ],
            }
        )
    return sections


def _page_card(row, folders, decodable_paths, language):
    """A row of the findings as the page shows it, with its photo or None, paths in short."""
    path, text = row["path"], row["detail"]
    if isinstance(text, Detail):  # the others are the words of a library
        text = text.in_language(language)
    for folder in folders:
        text = text.replace(os.path.join(folder, ""), "")
    return {
        **row,
        "detail": text,
        "place": html_pages.place(path, next(filter(path.startswith, folders), folders[0])),
        "picture": html_pages.photo(path) if path in decodable_paths else None,
    }


def _text(result):
    lines = [
        f"{result['counts'][kind]:>8,}  {severity:<7}  {kind}"
        for kind, severity in KINDS.items()
        if result["counts"][kind]
    ]
    lines.append(
        f"{result['images']:>8,}  images looked at: {result['errors']:,} errors, "
        f"{result['warnings']:,} warnings, {result['notes']:,} notes"
    )
    if result["remove"]:
        lines.append(
            f"{result['remove']:>8,}  files to remove, if you agree: "
            f"--mode clean --csv {result['findings']}"
        )
    if result["counts"]["unsupported"]:
        lines.append(
            f"{result['counts']['unsupported']:>8,}  files to convert, as {result['findings']} says"
        )
    if result["series"]:
        lines.append(f"series: {result['series']}")
    lines.append(f"page: {result['page']}")
    return "\n".join(lines)
