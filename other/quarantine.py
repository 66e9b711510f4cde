"""Moves what the audit found out of a data set, and brings it back.

Each call makes a numbered folder in the quarantine: `manifest.csv`, written before anything
is moved, and `files/`. So an interruption at any point leaves what `--undo` can put right.
"""

import contextlib
import csv
import errno
import filecmp
import json
import os
import shutil
import stat

from tqdm import tqdm

from common.console import say
from common.errors import InputError, RunError, first_ten
from common.files import flush, replacing
from data.image_files import EXTENSIONS

MANIFEST, FILES = "manifest.csv", "files"
COLUMNS = ("from", "to")  # an absolute path, and one relative to the manifest


def main(options):
    """`--mode clean`."""
    if options.undo:
        for name in options.given & {"csv", "target", "delete"}:
            raise InputError(f"--undo: goes alone, without --{name}: its manifest knows the files")
        result = undo(options.undo, options.dry_run)
        files, done = result["files"], "brought back"
        where = f"; {result['in_place']} were in place" if result["in_place"] else ""
    elif options.csv:
        if options.delete and "target" in options.given:
            raise InputError("--delete: moves nothing, so there is no --target; choose one of them")
        result = clean(options.csv, options.target, options.delete, options.dry_run)
        files, done = result["files"], "deleted" if options.delete else "moved"
        where = f" to {result['folder']}" if result["folder"] else ""
    else:
        raise InputError(
            "--mode clean needs --csv, the findings.csv of --mode audit, or --undo, "
            "the manifest of a quarantine"
        )
    if options.json:
        print(json.dumps({**result, "files": len(files)}, ensure_ascii=False))
        return
    if options.dry_run:
        for path in files:
            print(path)
    would = "would be " if options.dry_run else ""
    print(f"{len(files):,} files {would}{done}{where}")
    if result.get("manifest"):
        print(f"back again: --mode clean --undo {result['manifest']}")


def clean(findings, target="quarantine", delete=False, dry_run=False):
    """Takes away the files whose row says `remove`, each image with its text file.

    A text file stays where another image of its stem stays. A link is moved itself.

    Args:
        findings: CSV with the columns path and action, the latter `remove` or empty.
        target: the quarantine, made where it does not exist.
        delete: delete instead of moving.
        dry_run: only check, and name the files.

    Returns:
        dict: files (list of paths), folder and manifest (paths, None where nothing is moved)
        and dry_run.

    Raises:
        InputError: a malformed row, a path that is no file, a folder that cannot be written;
            nothing has been moved then.
        RunError: moving failed, and everything is where it was; or deleting failed midway.
    """
    files = _with_texts(read_removals(findings))
    for folder in sorted({os.path.dirname(path) for path in files}):
        if not os.access(folder, os.W_OK | os.X_OK):
            raise InputError(f"{folder}: is read-only; nothing was touched")
        inside = os.path.join(os.path.realpath(folder), "")
        if not delete and os.path.join(os.path.realpath(target), "").startswith(inside):
            raise InputError(
                f"--target: {target} lies in {folder}, which is being cleaned; name "
                "a folder outside it"
            )
        beside = os.path.dirname(os.path.realpath(target)) == os.path.dirname(inside.rstrip(os.sep))
        if not delete and beside and not _has_texts(folder):
            raise InputError(
                f"--target: {target} would stand among the folders of the classes, as "
                f"one of them, beside {folder}; name a folder elsewhere"
            )
    result = {"files": files, "folder": None, "manifest": None, "dry_run": dry_run}
    if not files or dry_run:
        return result
    if delete:
        _delete(files)
        return result
    folder = _new_folder(target)
    manifest = os.path.join(folder, MANIFEST)
    # With the folder above those all have in common, so that the name of a class stays.
    base = os.path.dirname(os.path.commonpath([os.path.dirname(path) for path in files]))
    moves = [(path, os.path.join(FILES, os.path.relpath(path, base))) for path in files]
    try:
        with (
            replacing(manifest) as partial,
            open(partial, "w", encoding="utf-8", errors="surrogateescape", newline="") as file,
        ):
            csv.writer(file).writerows([COLUMNS, *moves])
        flush(target)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise InputError(f"--target: {folder}: {error.strerror}") from None
    say(f"if this is interrupted: --mode clean --undo {manifest}")
    try:
        _move_all([(path, os.path.join(folder, name)) for path, name in moves], "moving")
    except RunError:
        if _drop_empty(os.path.join(folder, FILES)):
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return {**result, "folder": folder, "manifest": manifest}


def undo(manifest, dry_run=False):
    """Brings files back to where they were, those that are not there already.

    Args:
        manifest: path of a quarantine's `manifest.csv`.
        dry_run: only check, and name the files.

    Returns:
        dict: files (list of paths brought back), in_place (number of those that were there)
        and dry_run.

    Raises:
        InputError: not a manifest, or another file stands where one belongs; nothing has
            been moved then.
        RunError: moving failed; or some files are in neither place, and the others have been
            brought back.
    """
    folder = os.path.dirname(manifest)
    moves, lost, blocked, in_place = [], [], [], 0
    for line, row in _read(manifest, COLUMNS):
        place, away = row["from"], os.path.join(folder, row["to"])
        if not os.path.isabs(place) or not row["to"]:
            raise InputError(f"{manifest}:{line}: is no line of a quarantine's manifest")
        if not os.path.lexists(away):
            in_place += os.path.lexists(place)
            lost += [] if os.path.lexists(place) else [place]
        # Both are there, and the same, when a copy to another disk was interrupted.
        elif os.path.lexists(place) and not _same(place, away):
            blocked.append(place)
        else:
            moves.append((away, place))
    if blocked:
        raise InputError(
            f"--undo: {len(blocked)} files stand where others belong, which differ; "
            f"move them away: {first_ten(blocked)}"
        )
    if not dry_run:
        _move_all(moves, "bringing back")
        _drop_empty(os.path.join(folder, FILES))
        if lost:
            raise RunError(
                f"{len(lost)} files are neither in the quarantine nor in their place: "
                f"{first_ten(lost)}; {len(moves)} were brought back"
            )
    return {"files": [place for _, place in moves], "in_place": in_place, "dry_run": dry_run}


def read_removals(path):
    """Absolute paths of the files that a findings.csv says to remove, each once.

    Raises:
        InputError: another action, a path that is no file, or one that is not there.
    """
    chosen, missing = {}, []
    for line, row in _read(path, ("path", "action")):
        action = row["action"].strip()
        if action not in ("", "remove"):
            raise InputError(
                f"{path}:{line}: action {action!r} is not allowed; allowed are remove or nothing"
            )
        if not action:
            continue
        if "\0" in row["path"]:
            raise InputError(f"{path}:{line}: {row['path']!r} is not a path")
        folder, name = os.path.split(row["path"])
        # Whatever way a path is spelt, but a link as a last part stands for itself
        file = os.path.join(os.path.realpath(folder), name)
        try:
            mode = os.lstat(file).st_mode
        except (OSError, ValueError):
            missing.append(row["path"])
            continue
        if not name or not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            raise InputError(
                f"{path}:{line}: {row['path']!r} is not a file; only files can be removed"
            )
        chosen[file] = None
    if missing:
        raise InputError(
            f"{path}: {len(missing)} files are not there any more, nothing was "
            f"touched; audit again: {first_ten(missing)}"
        )
    return list(chosen)


def _read(path, columns):
    """(line, row) of a CSV that has at least `columns`."""
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.DictReader(file)
            absent = [name for name in columns if name not in (reader.fieldnames or ())]
            if absent:
                raise InputError(
                    f"{path}:1: has no column {absent[0]}; needed are "
                    f"{', '.join(columns)}, separated by commas"
                )
            for row in reader:
                if any(row[name] is None for name in columns):
                    raise InputError(f"{path}:{reader.line_num}: has too few columns")
                yield reader.line_num, row
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: is not CSV: {error}") from None


def _with_texts(files):
    """The files, and behind each image its text file unless another image needs it."""
    chosen, stems = set(files), {}
    for path in files:
        folder = os.path.dirname(path)
        if folder not in stems:
            kept = stems[folder] = set()
            for entry in os.scandir(folder):
                if entry.name.lower().endswith(EXTENSIONS) and entry.path not in chosen:
                    kept.add(os.path.splitext(entry.name)[0])
    together = {}
    for path in files:
        together[path] = None
        stem, ending = os.path.splitext(path)
        needed = os.path.basename(stem) in stems[os.path.dirname(path)]
        text = stem + ".txt"
        there = os.path.isfile(text) or os.path.islink(text)
        if ending.lower() in EXTENSIONS and there and not needed:
            together[text] = None
    return list(together)


def _has_texts(folder):
    """Whether a folder is in the sample format, and not that of one class."""
    return any(
        entry.name.endswith(".txt") or entry.name == "label.json" for entry in os.scandir(folder)
    )


def _new_folder(target):
    """A new numbered folder in the quarantine."""
    try:
        os.makedirs(target, exist_ok=True)
        numbers = [int(name) for name in os.listdir(target) if name.isdecimal()]
        folder = os.path.join(target, f"{max(numbers, default=0) + 1:04}")
        os.mkdir(folder)
    except OSError as error:
        raise InputError(f"--target: {target} cannot be written: {error.strerror}") from None
    return folder


def _move_all(moves, what):
    """Moves (from, to); where one fails, those before it are moved back."""
    done = []
    try:
        for one, two in tqdm(moves, what, unit=" files", leave=False, disable=None):
            os.makedirs(os.path.dirname(two), exist_ok=True)
            _move(one, two)
            done.append((one, two))
    except OSError as error:
        reason = f"{error.filename or one}: {error.strerror}"
        try:
            for one, two in reversed(done):
                _move(two, one)
        except OSError as another:
            raise RunError(
                f"{reason}; moving back failed as well: {one}: {another.strerror}; "
                "--undo may do it later"
            ) from None
        raise RunError(f"{reason}; all files are where they were") from None


def _drop_empty(folder):
    """Removes a tree of empty folders, and says whether all of it has gone."""
    for parent, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):  # something stands there
            os.rmdir(parent)
    return not os.path.lexists(folder)


def _move(one, two):
    """Moves a file or link, to another disk as well; there it is copied whole, then removed."""
    try:
        os.rename(one, two)
        return
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    # A short name: one in front of the file's own may be longer than a disk allows.
    partial = os.path.join(os.path.dirname(two), f".partial-{os.getpid()}")
    try:
        shutil.copy2(one, partial, follow_symlinks=False)
        if not os.path.islink(partial):
            flush(partial)
        os.rename(partial, two)
        flush(os.path.dirname(two))
        try:
            os.unlink(one)
        except OSError:
            os.unlink(two)
            raise
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)


def _same(one, two):
    if os.path.islink(one) or os.path.islink(two):
        return os.path.islink(one) and os.path.islink(two) and os.readlink(one) == os.readlink(two)
    return os.path.isfile(one) and filecmp.cmp(one, two, shallow=False)


def _delete(files):
    for number, path in enumerate(files):
        try:
            os.unlink(path)
        except OSError as error:
            raise RunError(
                f"{path}: {error.strerror}; {number} of {len(files)} files are deleted, "
                "the others are untouched"
            ) from None
