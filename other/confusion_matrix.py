"""Charts of which classes are taken for which, with sample images of the worst pairs."""

import csv
import json
import os
from typing import NamedTuple

import numpy as np

import run_folder
from errors import ImageError, InputError, first_ten
from eval import predict
from inference import Classifier, known_labels
from other import fonts
from other.charts import DPI, check_output_folder, drawing, output_folder, save
from preprocess import Preprocessing, load
from samples import check_labels, read_samples

FOLDER = "confusion_matrix"  # in a run's folder, where --target is not given
ROWS = "eval.csv"  # in a run's folder, what --mode eval leaves
COLUMNS = ["path", "true", "predicted", "probability", "error"]  # of eval.csv
FILES = ("counts.csv", "counts.png", "counts.svg", "normalized.png", "normalized.svg",
         "pairs.csv", "pairs.png")
NO_ANSWER = -1  # in place of a class id
NO_ANSWER_NAME = "no answer"
MOST_PAIRS, MOST_SAMPLES = 10, 4
ANNOTATED = 25  # with more classes, cells hold no numbers, and confused classes stand together
THUMBNAIL, GAP = 96, 10  # pixels
GREY = 190  # a sample that cannot be shown


class Answers(NamedTuple):
    """What a classifier said about labelled images.

    Attributes:
        paths: list of str, the image files.
        true: int (N,), class ids.
        predicted: int (N,), class ids, `NO_ANSWER` for images that cannot be decoded.
        probability: float (N,), of the predicted class, 0 where there is none.
        undecodable: list of str, a line for each image that cannot be decoded.
    """

    paths: list
    true: np.ndarray
    predicted: np.ndarray
    probability: np.ndarray
    undecodable: list


def main(options):
    """`--mode confusion_matrix`."""
    path = run_folder.find(options.run, options.save_dir)
    target = _target(options.target, path)
    check_output_folder(target, FILES)
    labels = known_labels(path)
    answers = _evaluate(options, path, labels) if options.data else _read(path, labels)
    matrix = confusion(answers.true, answers.predicted, len(labels))
    images = np.bincount(answers.true, minlength=len(labels))
    pairs = confused_pairs(matrix, images)
    with output_folder(target, FILES) as folder:
        _write(folder, labels, matrix, images, pairs, answers)
    result = {
        "images": len(answers.true),
        "accuracy": float(np.trace(matrix) / len(answers.true)),
        "labels": list(labels),
        "matrix": matrix.tolist(),
        "pairs": [
            {"true": labels[true], "predicted": labels[predicted], "images": count, "share": share}
            for true, predicted, count, share in pairs
        ],
        "undecodable": answers.undecodable,
        "target": target,
    }
    print(json.dumps(result, ensure_ascii=False) if options.json else _text(result))


def confusion(true, predicted, classes):
    """The confusion matrix.

    Args:
        true: int (N,), class ids.
        predicted: int (N,), class ids; `NO_ANSWER` counts in no column.
        classes: number of classes C.

    Returns:
        int64 (C, C): how many images of the class of the row were taken for the class
        of the column.
    """
    from sklearn.metrics import confusion_matrix

    answered = np.asarray(predicted) != NO_ANSWER
    if not answered.any():  # scikit-learn refuses to count nothing
        return np.zeros((classes, classes), np.int64)
    return confusion_matrix(
        np.asarray(true)[answered], np.asarray(predicted)[answered], labels=np.arange(classes)
    )


def confused_pairs(matrix, images=None, most=MOST_PAIRS):
    """The pairs of classes that are confused most often, in one direction.

    Args:
        matrix: int (C, C), as `confusion` gives it.
        images: int (C,), images of each class; default: the sums of the rows.
        most: how many pairs at most.

    Returns:
        [(true id, predicted id, images, share of the true class's images)], the most
        images first, then the largest share, then the smallest ids.
    """
    matrix = np.asarray(matrix)
    images = matrix.sum(axis=1) if images is None else images
    wrong = matrix - np.diag(np.diag(matrix))
    found = [
        (int(true), int(predicted), int(wrong[true, predicted]),
         float(wrong[true, predicted] / images[true]))
        for true, predicted in zip(*np.nonzero(wrong))
    ]
    return sorted(found, key=lambda pair: (-pair[2], -pair[3], *pair[:2]))[:most]


def confusion_order(shares):
    """Orders classes so that those confused with each other stand together.

    Average-linkage clustering (scipy.cluster.hierarchy) on the mean of both directions'
    shares; of two clusters that are joined, the one with the closest pair goes first, so
    that the most confused block begins the order.

    Args:
        shares: float (C, C), each row the shares that a class's images have.

    Returns:
        list of the C class ids.
    """
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    classes = len(shares)
    if classes < 2:
        return list(range(classes))
    distances = 1 - (shares + shares.T) / 2
    np.fill_diagonal(distances, 0)
    clusters = [(np.inf, [number]) for number in range(classes)]  # closest pair, members
    for one, other, distance, _ in linkage(squareform(distances, checks=False), "average"):
        first, second = sorted((clusters[int(one)], clusters[int(other)]), key=lambda c: c[0])
        clusters.append((min(first[0], distance), first[1] + second[1]))
    return clusters[-1][1]


def _target(target, path):
    if target is not None:
        return target
    if run_folder.is_exported(path):
        raise InputError(
            f"--target is missing: {path} is an exported model, whose folder is left as it is; "
            "name a folder"
        )
    return os.path.join(path, FOLDER)


def _evaluate(options, path, labels):
    """The `Answers` of the model about the images in --data."""
    check_labels(options.data, labels, f"the labels of {path}")
    samples = read_samples(options.data, labels, f"the labels of {path}")
    classifier = Classifier.load(path)
    probabilities, errors = predict(classifier, samples, options.batch_size, options.workers)
    predicted = probabilities.argmax(axis=1)
    predicted[list(errors)] = NO_ANSWER
    return Answers(
        [os.path.join(samples.folder, name) for name in samples.names], samples.labels, predicted,
        probabilities.max(axis=1), [str(error) for error in errors.values()],
    )


def _read(path, labels):
    """The `Answers` that the run's eval.csv holds."""
    if run_folder.is_exported(path):
        raise InputError(
            f"--data is missing: {path} is an exported model, which keeps no {ROWS}; name labelled "
            "images"
        )
    file = os.path.join(path, ROWS)
    numbers = {label: number for number, label in enumerate(labels)}
    paths, values, undecodable = [], [], []
    try:
        with open(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
            reader = csv.reader(text)
            header = next(reader, [])
            if header != COLUMNS:
                raise InputError(
                    f"{file}:1: has the columns {first_ten(header) or 'of an empty file'}; needed "
                    f"are {', '.join(COLUMNS)}, as --mode eval writes them"
                )
            for row in reader:
                values.append(_numbers(row, numbers, f"{file}:{reader.line_num}"))
                paths.append(row[0])
                if row[4]:
                    undecodable.append(f"{row[0]}: {row[4]}")
    except FileNotFoundError:
        raise InputError(
            f"{file}: no such file; run --mode eval on this run first, or name labelled images "
            "with --data"
        ) from None
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from None
    except csv.Error as error:
        raise InputError(f"{file}: is not CSV: {error}") from None
    if not values:
        raise InputError(f"{file}: has no rows; run --mode eval again")
    true, predicted, probability = zip(*values)
    return Answers(paths, np.array(true), np.array(predicted), np.array(probability), undecodable)


def _numbers(row, numbers, place):
    """(true id, predicted id, probability) of a row of eval.csv."""
    if len(row) != len(COLUMNS):
        raise InputError(f"{place}: has {len(row)} values; needed are {len(COLUMNS)}")
    _, true, predicted, probability, error = row
    for column, name in (("true", true), ("predicted", predicted)):
        if name not in numbers and not (error and column == "predicted"):
            raise InputError(
                f"{place}: {column} is {name!r}, which is none of the run's classes: "
                f"{first_ten(numbers)}"
            )
    if error:
        return numbers[true], NO_ANSWER, 0.0
    try:
        return numbers[true], numbers[predicted], float(probability)
    except ValueError:
        raise InputError(f"{place}: probability is {probability!r}; a number is needed") from None


def _write(folder, labels, matrix, images, pairs, answers):
    """Writes tables and charts into `folder`."""
    missing = images - matrix.sum(axis=1)
    full, names = matrix, list(labels)
    if missing.any():
        full, names = np.column_stack([matrix, missing]), [*labels, NO_ANSWER_NAME]
    _write_rows(folder, "counts.csv", [["true \\ predicted", *names],
                                       *([name, *row] for name, row in zip(labels, full))])
    _write_rows(folder, "pairs.csv", [["true", "predicted", "images", "share"],
                                      *([labels[true], labels[predicted], count, share]
                                        for true, predicted, count, share in pairs)])
    families, words = fonts.for_names(labels)
    # Images without an answer are part of their class, so that the diagonal is the recall.
    shares = full / np.maximum(images, 1)[:, None]
    order, note = list(range(len(labels))), ""
    if len(labels) > ANNOTATED:
        order = confusion_order(shares[:, : len(labels)])
        note = "classes that are confused stand together, the most confused first\n" \
               "(average-linkage clustering)"
    columns = [*order, *range(len(labels), len(names))]
    rows, across = [words[n] for n in order], [*words, NO_ANSWER_NAME]
    across = [across[n] for n in columns]
    with drawing(families):
        for stem, values, name in (("counts", full, "images"),
                                   ("normalized", shares, "share of the true class's images")):
            figure = matrix_chart(values[np.ix_(order, columns)], rows, across, name, note)
            save(figure, folder, stem)
        thumbnails = [_thumbnails(answers, *pair[:2]) for pair in pairs]
        save(pairs_chart(pairs, thumbnails, words), folder, "pairs", ("png",))


def matrix_chart(values, rows, columns, name, note=""):
    """A confusion matrix as colours, with numbers where there are few classes.

    Args:
        values: (R, C), counts or shares.
        rows, columns: the texts of true and predicted classes.
        name: what the values are.
        note: a line on the order of the classes.

    Returns:
        `matplotlib.figure.Figure`.
    """
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    count = len(rows)
    # Inches a cell: wide enough for its number, later for its name, at last for a line.
    cell = min(0.9, max(0.5, 4 / count)) if count <= ANNOTATED else max(0.15, 5 / count)
    cell = min(cell, 40 / count)
    letters = 9 if count <= ANNOTATED else 7
    names = max(fonts.columns(word) for word in [*rows, *columns]) * letters * 0.6 / 72
    whole = np.issubdtype(values.dtype, np.integer)
    figure = Figure((cell * len(columns) + names + 1.9, cell * count + names + 1.4),
                    layout="constrained")
    axes = figure.subplots()
    most = max(values.max(), 1) if whole else 1
    # One hue from light to dark needs no colour vision. The square root of the value, or
    # the few wrong ones would look like none beside the many on the diagonal.
    picture = axes.imshow(values, "Blues", norm=PowerNorm(0.5, 0, most))
    axes.spines[:].set_visible(False)
    # Where a cell is too small for a name, every second, third... is shown.
    step = int(np.ceil(0.13 / cell))
    for ticks, words, turn in ((axes.set_yticks, rows, {}),
                               (axes.set_xticks, columns, _turned(columns, count))):
        # parse_math: a name may hold dollar signs, which would be read as a formula.
        ticks(range(0, len(words), step), words[::step], fontsize=letters, parse_math=False, **turn)
    axes.tick_params(length=0)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if note:
        axes.set_title(note, fontsize=9, loc="left")
    # Lines between the cells, to follow a row with the eye.
    axes.set_xticks(np.arange(len(columns) - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(count - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="0.85", linewidth=0.8 if count <= ANNOTATED else 0.3)
    axes.tick_params(which="minor", length=0)
    if count <= ANNOTATED:
        for (row, column), value in np.ndenumerate(values):
            if value:  # a nought in most cells would hide the others
                text = str(value) if whole else f"{value:.2f}" if value >= 0.005 else "<0.01"
                axes.text(column, row, text, ha="center", va="center",
                          fontsize=9 if len(text) < 5 else 7,
                          color="white" if picture.norm(value) > 0.6 else "black")
    bar = figure.colorbar(picture, label=name, shrink=0.6, aspect=25, pad=0.02)
    if whole:
        bar.ax.yaxis.get_major_locator().set_params(integer=True)
    return figure


def _turned(words, count):
    """How names below the columns stand: level where they are short and few."""
    if count <= ANNOTATED and max(fonts.columns(word) for word in words) <= 3:
        return {}
    if count <= ANNOTATED:
        return {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    return {"rotation": 90}


def pairs_chart(pairs, thumbnails, words):
    """The most confused pairs, a row each: sample images and what they are taken for.

    Args:
        pairs: as `confused_pairs` gives them.
        thumbnails: for each pair a list of at most `MOST_SAMPLES` uint8 arrays
            (THUMBNAIL, THUMBNAIL, 3).
        words: the text to draw for each class.

    Returns:
        `matplotlib.figure.Figure`.
    """
    from matplotlib.figure import Figure

    if not pairs:
        figure = Figure((5, 1))
        figure.text(0.5, 0.5, "no image is taken for another class", ha="center", va="center")
        return figure
    step = THUMBNAIL + GAP
    across = max(map(len, thumbnails))
    shape = len(pairs) * step + GAP, across * step + GAP
    canvas = np.full((*shape, 3), 255, np.uint8)
    for row, images in enumerate(thumbnails):
        for column, image in enumerate(images):
            top, left = row * step + GAP, column * step + GAP
            # The edge of a picture that ends in white would be lost on white paper.
            canvas[top - 1 : top + THUMBNAIL + 1, left - 1 : left + THUMBNAIL + 1] = GREY
            canvas[top : top + THUMBNAIL, left : left + THUMBNAIL] = image
    letters = 9  # points
    lines = [
        (f"true: {words[true]}", f"taken for: {words[predicted]}",
         f"{count:,} image{'s' if count > 1 else ''}, {share:.1%} of the class")
        for true, predicted, count, share in pairs
    ]
    widest = max(fonts.columns(line) for each in lines for line in each)
    width = shape[1] + widest * letters * 0.75 * DPI / 72 + 2 * GAP
    figure = Figure((width / DPI, shape[0] / DPI), dpi=DPI)
    axes = figure.add_axes((0, 0, shape[1] / width, 1))
    axes.imshow(canvas, aspect="auto", interpolation="nearest")
    axes.set_axis_off()
    for row, each in enumerate(lines):
        axes.text(shape[1], row * step + GAP + THUMBNAIL / 2, "\n".join(each), va="center",
                  fontsize=letters, linespacing=1.5, parse_math=False)
    return figure


def _thumbnails(answers, true, predicted):
    """The samples of a pair that the classifier was surest of, at most `MOST_SAMPLES`."""
    chosen = np.flatnonzero((answers.true == true) & (answers.predicted == predicted))
    chosen = chosen[np.argsort(-answers.probability[chosen], kind="stable")][:MOST_SAMPLES]
    found = []
    for position in chosen:
        try:
            found.append(load(answers.paths[position], Preprocessing(THUMBNAIL)))
        except ImageError:  # moved or changed since it was evaluated
            found.append(np.full((THUMBNAIL, THUMBNAIL, 3), GREY, np.uint8))
    return found


def _write_rows(folder, name, rows):
    with open(os.path.join(folder, name), "w", encoding="utf-8", errors="backslashreplace",
              newline="") as file:
        csv.writer(file).writerows(rows)


def _text(result):
    lines = [f"images {result['images']:,}   accuracy {result['accuracy']:.4f}", ""]
    if result["pairs"]:
        lines += ["most confused:", f"{'images':>8}  {'share':>6}  true -> taken for"]
        lines += [f"{pair['images']:>8,}  {pair['share']:>6.1%}  {pair['true']} -> "
                  f"{pair['predicted']}" for pair in result["pairs"]]
    else:
        lines.append("no image is taken for another class")
    lines += [f"no answer, counts as wrong: {line}" for line in result["undecodable"]]
    lines.append(f"matrices and pairs: {result['target']}")
    return "\n".join(lines)
