"""Moves what the audit found out of a data set, and back.

Each call makes a numbered folder in the quarantine: `manifest.csv`, written before anything
is moved, and `files/`. So `--undo` can take back what was done before an interruption.
"""

import os
import shutil

from common import console
from common.errors import InputError, RunError, first_ten
from config.mode_options import CleanOptions
from data.image_files import EXTENSIONS
from other.data_quality import file_moves, manifest
from other.data_quality.findings import read_removals


def main(options: CleanOptions):
    """`--mode clean`."""
    _check(options)
    if options.undo:
        result = undo(options.undo, options.dry_run)
    else:
        result = clean(options.csv, options.target, options.delete, options.dry_run)
    file_paths = result["files"]
    console.show(
        {**result, "files": len(file_paths)},
        lambda counted: _text(counted, file_paths, options),
        options.json,
    )


def _check(options):
    """Refuses options that contradict each other."""
    if options.undo:
        for name in options.given & {"csv", "target", "delete"}:
            raise InputError(
                f"--undo: goes alone, without --{name}, because its manifest lists the files; "
                "remove one of the two options"
            )
    elif not options.csv:
        raise InputError(
            "--mode clean needs --csv, the findings.csv of --mode audit, or --undo, "
            "the manifest of a quarantine"
        )
    elif options.delete and "target" in options.given:
        raise InputError(
            "--delete: deletes the files instead of moving them to --target; choose one of them"
        )


def clean(findings, target="quarantine", delete=False, dry_run=False):
    """Moves the files whose row says `remove` away, each image with its text file.

    A text file stays where an image of its stem stays. A link is moved itself.

    Args:
        findings: str, path of a CSV with the columns path and action, the latter `remove`,
            `convert` (which is left to a person) or empty.
        target: str, path of the quarantine, made where it does not exist.
        delete: bool, delete the files instead of moving them.
        dry_run: bool, only check, and list the files.

    Returns:
        dict: files (list of paths), folder and manifest (paths, None where nothing is moved)
        and dry_run.

    Raises:
        InputError: a malformed row, a path that is not a file, a folder that cannot be written;
            nothing has been moved then.
        RunError: moving failed, and all files are where they were; or deleting failed midway.

    Example:

    ```python
    result = clean("audit/findings.csv", "quarantine")
    undo(result["manifest"])
    ```
    """
    file_paths = _with_texts(read_removals(findings))
    _check_folders(file_paths, None if delete else target)
    result = {"files": file_paths, "folder": None, "manifest": None, "dry_run": dry_run}
    if not file_paths or dry_run:
        return result
    if delete:
        file_moves.delete_all(file_paths)
        return result
    folder = manifest.new_folder(target)
    manifest_path, moves = manifest.write_manifest(folder, file_paths)
    console.say(f"if this is interrupted: --mode clean --undo {manifest_path}")
    try:
        file_moves.move_all(moves, "moving")
    except RunError:
        if file_moves.remove_empty_folders(os.path.join(folder, manifest.FILES)):
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return {**result, "folder": folder, "manifest": manifest_path}


def undo(manifest_path, dry_run=False):
    """Moves files back to where they were, those that are not there already.

    Args:
        manifest_path: str, path of a quarantine's `manifest.csv`.
        dry_run: bool, only check, and list the files.

    Returns:
        dict: files (list of paths moved back), in_place (number of those that were there)
        and dry_run.

    Raises:
        InputError: not a manifest, or another file has the path of one; nothing has been moved
            then.
        RunError: moving failed; or some files are in neither place, and the others have been
            moved back.
    """
    moves, lost_paths, blocked_paths, in_place = [], [], [], 0
    for original_path, quarantined_path in manifest.read_manifest(manifest_path):
        exists = os.path.lexists(original_path)
        if not os.path.lexists(quarantined_path):
            in_place += exists
            lost_paths += [] if exists else [original_path]
        # Both exist, and are the same, when a copy to another disk was interrupted.
        elif exists and not file_moves.same_content(original_path, quarantined_path):
            blocked_paths.append(original_path)
        else:
            moves.append((quarantined_path, original_path))
    if blocked_paths:
        raise InputError(
            f"--undo: {len(blocked_paths)} files cannot be moved back, because different files "
            f"have their paths; move those away: {first_ten(blocked_paths)}"
        )
    if not dry_run:
        file_moves.move_all(moves, "moving back")
        folder = os.path.dirname(manifest_path)
        file_moves.remove_empty_folders(os.path.join(folder, manifest.FILES))
        if lost_paths:
            raise RunError(
                f"{len(lost_paths)} files are neither in the quarantine nor where they were: "
                f"{first_ten(lost_paths)}; {len(moves)} were moved back"
            )
    return {"files": [path for _, path in moves], "in_place": in_place, "dry_run": dry_run}


def _check_folders(file_paths, target):
    """Refuses folders that cannot be written, and a quarantine (unless None) among the data."""
    for folder in sorted({os.path.dirname(path) for path in file_paths}):
        if not os.access(folder, os.W_OK | os.X_OK):
            raise InputError(f"{folder}: is read-only; nothing was changed")
        if target is None:
            continue
        real_folder, real_target = os.path.realpath(folder), os.path.realpath(target)
        if os.path.join(real_target, "").startswith(os.path.join(real_folder, "")):
            raise InputError(
                f"--target: {target} is inside {folder}, which is being cleaned; name "
                "a folder outside it"
            )
        is_sibling = os.path.dirname(real_target) == os.path.dirname(real_folder)
        if is_sibling and not _in_sample_format(folder):
            raise InputError(
                f"--target: {target} would be among the folders of the classes, beside "
                f"{folder}, and be taken for a class; name a folder elsewhere"
            )


def _in_sample_format(folder):
    """Whether a folder is in the sample format, and not that of one class."""
    return any(
        entry.name.endswith(".txt") or entry.name == "label.json" for entry in os.scandir(folder)
    )


def _with_texts(file_paths):
    """The files, and after each image its text file unless another image needs it."""
    removed, kept_stems = set(file_paths), {}
    for path in file_paths:
        folder = os.path.dirname(path)
        if folder not in kept_stems:
            kept_stems[folder] = {
                os.path.splitext(entry.name)[0]
                for entry in os.scandir(folder)
                if entry.name.lower().endswith(EXTENSIONS) and entry.path not in removed
            }
    all_paths = {}
    for path in file_paths:
        all_paths[path] = None
        stem, extension = os.path.splitext(path)
        is_needed = os.path.basename(stem) in kept_stems[os.path.dirname(path)]
        text_path = stem + ".txt"
        text_exists = os.path.isfile(text_path) or os.path.islink(text_path)
        if extension.lower() in EXTENSIONS and text_exists and not is_needed:
            all_paths[text_path] = None
    return list(all_paths)


def _text(result, file_paths, options):
    """The result as text: with --dry_run the files, line by line, and what would happen."""
    lines = list(file_paths) if options.dry_run else []
    action = "moved back" if options.undo else "deleted" if options.delete else "moved"
    would = "would be " if options.dry_run else ""
    detail = f"; {result['in_place']} were in place" if result.get("in_place") else ""
    if result.get("folder"):
        detail = f" to {result['folder']}"
    lines.append(f"{result['files']:,} files {would}{action}{detail}")
    if result.get("manifest"):
        lines.append(f"to undo it: --mode clean --undo {result['manifest']}")
    return "\n".join(lines)
