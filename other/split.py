"""Splits a data set into parts: which photos train, validate and test, in a table beside them."""

import numpy as np

from common import console
from config.mode_options import SplitOptions
from data import parts
from data.labelled_data import read_labelled
from data.packed_places import refuse_place
from data.parts import PARTS


def main(options: SplitOptions):
    """`--mode split`."""
    shares = (*options.shares, 0.0)[: len(PARTS)] if options.shares else None
    result = split(options.data, shares, options.workers, options.dry_run, options.group)
    console.show(result, lambda result: _text(result, options.dry_run), options.json)


def split(data, shares=None, workers=1, dry_run=False, rule=None):
    """Gives each photo of a data set a part; photos that have one keep it.

    Args:
        data: str, a folder or a CSV file.
        shares: tuple of 3 float that add up to 1; None is those that the photos have that have
            a part, or `parts.SHARES`.
        workers: int, threads that read and decode.
        dry_run: bool, only count.
        rule: str, as of `--group`, by which photos form groups; None is that of the table.

    Returns:
        dict: table (its path), added (photos that had no part), parts (name -> photos) and
        classes (name -> dict of part -> photos).

    Raises:
        InputError: the data cannot be read, or the table not be written.

    Example:

    ```python
    split("photos")["parts"]  # {"train": 384, "val": 48, "test": 48}
    ```
    """
    refuse_place(data, "split")
    samples, class_names, _ = read_labelled(data, rule=rule)
    has_table = parts.exists(data)
    assignment = parts.update(
        data, samples, shares, workers, write=not dry_run, rule=rule, class_names=class_names
    )
    if has_table and shares:
        console.say(
            f"note: {assignment.path}: the photos in it keep their parts; --shares "
            f"{', '.join(f'{share:g}' for share in shares)} counts for the "
            f"{assignment.added} others; delete it to split anew"
        )
    parts.describe_gaps(assignment, samples.class_ids, class_names)
    return {
        "table": assignment.path,
        "added": assignment.added,
        "parts": _count(assignment.parts),
        "classes": {
            class_name: _count(assignment.parts[samples.class_ids == class_id])
            for class_id, class_name in enumerate(class_names)
        },
    }


def _count(part_numbers):
    counts = np.bincount(part_numbers, minlength=len(PARTS))
    return {part: int(count) for part, count in zip(PARTS, counts)}


def _text(result, dry_run):
    rows = {**result["classes"], "all": result["parts"]}
    width = max(map(len, ("class", *rows)))
    lines = [f"{'class':<{width}}  " + "  ".join(f"{part:>7}" for part in PARTS)]
    lines += [
        f"{name:<{width}}  " + "  ".join(f"{counts[part]:>7,}" for part in PARTS)
        for name, counts in rows.items()
    ]
    verb = "would be written" if dry_run else "written"
    lines.append(f"{verb}: {result['table']}, with {result['added']:,} photos new in it")
    return "\n".join(lines)
