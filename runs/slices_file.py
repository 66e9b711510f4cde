"""slices.json: where a report has shown a run to be worse, how it is written and read."""

import json
import os

from common.files import write_text

NAME = "slices.json"


def write_slices(run_path, weights, photos, measured):
    """Writes slices.json; one of an earlier report is replaced.

    Args:
        run_path: str, the run's folder.
        weights: str, the checksum of the weights that were measured.
        photos: int, those measured on.
        measured: dict, from `slices.measure`.

    Raises:
        OSError: it cannot be written.
    """
    content = {"weights": weights, "photos": photos, **measured}
    write_text(os.path.join(run_path, NAME), json.dumps(content, indent=1) + "\n")


def read_slices(run_path, weights):
    """Reads slices.json.

    Args:
        run_path: str, the run's folder.
        weights: str, the checksum of the weights that it is to be about.

    Returns:
        dict, what was written; None where there is none of these weights.

    Example:

    ```python
    read_slices(run.path, checksum(run.file(BEST)))["rows"][0]["verdict"]  # "worse"
    ```
    """
    try:
        with open(os.path.join(run_path, NAME), encoding="utf-8") as json_file:
            content = json.load(json_file)
        return content if content["weights"] == weights and content["rows"] else None
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return None  # what is damaged is no reason to refuse an export
