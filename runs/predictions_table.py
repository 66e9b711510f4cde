"""eval.csv: one row per image with its true and predicted class, how it is written and read."""

import csv
from typing import NamedTuple

from common.errors import InputError, first_ten
from common.tables import READING, write_table
from common.write_errors import write_error

FILE_NAME = "eval.csv"  # in a run's folder
COLUMNS = ("path", "true", "predicted", "probability", "error")


class Prediction(NamedTuple):
    """The answer about one labelled image.

    Attributes:
        image_path: str, the image file.
        true: int, its class id.
        predicted: int, the class id of the answer; None for an image that cannot be decoded.
        probability: float, of the predicted class, 0 to 1; 0 where there is none.
        error: str, why the image cannot be decoded; "" where it can.
    """

    image_path: str
    true: int
    predicted: int | None
    probability: float
    error: str = ""


def write_predictions(csv_path, predictions, class_names):
    """Writes a table of predictions, whole or not at all.

    Args:
        csv_path: str, the file to write.
        predictions: list of `Prediction`.
        class_names: tuple of str, in the order of their ids.

    Raises:
        InputError: the file cannot be written.
        RunError: the disk is full.
    """
    try:
        write_table(csv_path, COLUMNS, (_row(one, class_names) for one in predictions))
    except OSError as error:
        raise write_error(error, csv_path, "--csv") from None


def _row(prediction, class_names):
    answer = ("", "")
    if prediction.predicted is not None:
        answer = (class_names[prediction.predicted], prediction.probability)
    true_name = class_names[prediction.true]
    return (prediction.image_path, true_name, *answer, prediction.error)


def read_predictions(csv_path, class_names):
    """Reads a table of predictions.

    Args:
        csv_path: str, the file.
        class_names: tuple of str, in the order of their ids.

    Returns:
        list of `Prediction`, at least one.

    Raises:
        InputError: the file is missing, has no rows, or is not what `write_predictions` writes;
            names the line.
    """
    class_ids = {class_name: class_id for class_id, class_name in enumerate(class_names)}
    try:
        with open(csv_path, **READING) as csv_file:
            reader = csv.reader(csv_file)
            header = next(reader, [])
            if tuple(header) != COLUMNS:
                raise InputError(
                    f"{csv_path}:1: has the columns {first_ten(header) or 'of an empty file'}; "
                    f"needed are {', '.join(COLUMNS)}, as --mode eval writes them"
                )
            predictions = [
                _parse_row(row, class_ids, f"{csv_path}:{reader.line_num}") for row in reader
            ]
    except FileNotFoundError:
        raise InputError(
            f"{csv_path}: no such file; run --mode eval on this run first, or name labelled "
            "images with --data"
        ) from None
    except OSError as error:
        raise InputError(f"{csv_path}: cannot be read: {error.strerror}") from None
    except csv.Error as error:
        raise InputError(f"{csv_path}: is not CSV: {error}") from None
    if not predictions:
        raise InputError(f"{csv_path}: has no rows; run --mode eval again")
    return predictions


def _parse_row(row, class_ids, place):
    if len(row) != len(COLUMNS):
        raise InputError(f"{place}: has {len(row)} values; needed are {len(COLUMNS)}")
    image_path, true_name, predicted_name, probability, error = row
    for column, class_name in (("true", true_name), ("predicted", predicted_name)):
        if class_name not in class_ids and not (error and column == "predicted"):
            raise InputError(
                f"{place}: {column} is {class_name!r}, which is none of the run's classes: "
                f"{first_ten(class_ids)}"
            )
    true = class_ids[true_name]
    if error:
        return Prediction(image_path, true, None, 0.0, error)
    try:
        return Prediction(image_path, true, class_ids[predicted_name], float(probability))
    except ValueError:
        raise InputError(f"{place}: probability is {probability!r}; a number is needed") from None
