"""Have the photos changed since a run was trained? Its validation photos against new ones."""

import os

import numpy as np

from common import console, output_places
from common.errors import ImageError, InputError
from common.files import write_text
from common.nearest import NearestRows, unit_rows
from common.tables import write_table
from config.mode_options import DriftOptions
from data.csv_labels import list_photos
from evaluation.permutation_test import energy_test, holm
from evaluation.photo_statistics import NAMES, photo_statistics
from other.embed import say_undecodable
from other.reporting import html_pages
from other.reporting.charts import check_output_folder, output_folder
from pages.languages import choose_language
from pages.rendering import render
from pages.text_tables import texts_of
from prediction.feature_extractor import FeatureExtractor
from prediction.streaming import stream
from runs import run_folder
from runs.margin_files import read_margins
from training.training_data import read_data

MOVED = 3  # exit status where something has changed
SIGNIFICANCE_LEVEL = 0.05  # of the three questions together
FEWEST, MOST = 20, 2000  # photos of each group that are compared
NEIGHBOURS = 5  # validation photos whose mean distance says how far a photo has moved
SHOWN = 24
PAGE, TABLE = FILES = ("index.html", "drift.csv")
COLUMNS = ("path", "distance", "predicted", "probability", *NAMES)


class Group:
    """Photos of one time: their statistics, features and probabilities.

    Attributes:
        paths: list of N str, those that can be decoded.
        photos: float32 (N, 5), `photo_statistics`.
        features: float64 (N, D), of unit length.
        predictions: float32 (N, C).
        errors: list of `ImageError`.
    """

    def __init__(self, paths, extractor, options):
        def compute(images):
            features = extractor.compute(images, options.batch_size)
            statistics = np.stack([photo_statistics(image) for image in images])
            return zip(statistics, features, extractor.probabilities(features))

        answers = list(
            stream(paths, extractor.preprocessing, compute, options.batch_size, options.workers)
        )
        self.errors = [answer for _, answer in answers if isinstance(answer, ImageError)]
        decoded = [row for row in answers if not isinstance(row[1], ImageError)]
        self.paths = [path for path, _ in decoded]
        if not decoded:
            return
        statistics, features, probabilities = zip(*(answer for _, answer in decoded))
        self.photos = np.stack(statistics)
        self.features = unit_rows(np.stack(features))
        self.predictions = np.stack(probabilities)


def main(options: DriftOptions):
    """`--mode drift`.

    Returns:
        0 where nothing has changed, else `MOVED`.
    """
    run = run_folder.find_trained(options.run, options.save_dir)
    place = output_places.choose_target(options, data=options.data, run=run.path)
    options = options._replace(target=place.path)
    check_output_folder(options.target, FILES)
    new_paths = _spread(list_photos(options.data, "--data"))
    old_paths = _spread(_validation_paths(run, options))
    _check_counts(old_paths, new_paths, run, options)
    extractor = FeatureExtractor.from_run(run)
    before, now = (Group(paths, extractor, options) for paths in (old_paths, new_paths))
    for group in (before, now):
        say_undecodable(group.errors, len(group.paths) + len(group.errors))
    _check_counts(before.paths, now.paths, run, options)
    result = measure(before, now, run.class_names)
    distances = _distances(before, now)
    _write(options, result, now, distances, run)
    place.record()
    console.show({**result, "page": os.path.join(options.target, PAGE)}, _text, options.json)
    return MOVED if result["moved"] else 0


def _check_counts(old_paths, new_paths, run, options):
    if len(new_paths) < FEWEST:
        raise InputError(
            f"--data: {options.data}: {len(new_paths)} photos are too few to compare; at least "
            f"{FEWEST} are needed"
        )
    if len(old_paths) < FEWEST:
        raise InputError(
            f"--run: {run.path}: {len(old_paths)} validation photos are too few to compare with; "
            f"at least {FEWEST} are needed: train with --val_data or a larger --val_fraction, or, "
            "before splits.csv is made, with more to validate: --mode split --shares 0.7,0.2,0.1"
        )


def _validation_paths(run, options):
    """Paths of the run's validation photos: of today's, those that it was not trained on."""
    _, _, validation = read_data(run.options._replace(workers=options.workers))
    paths = [os.path.join(validation.folder, name) for name in validation.file_names]
    trained_on = read_margins(run.path)[0]
    paths = [path for path in paths if os.path.realpath(path) not in trained_on]
    known_count = run_folder.read_metrics(run.path).get("val_images", len(paths))
    if len(paths) != known_count:
        console.say(
            f"note: {run.path} was validated with {known_count:,} photos; {len(paths):,} of "
            "today's take their place"
        )
    return paths


def _spread(paths):
    """At most `MOST` of the paths, evenly from all."""
    if len(paths) <= MOST:
        return paths
    return [paths[position] for position in np.linspace(0, len(paths) - 1, MOST).astype(int)]


def measure(before, now, class_names):
    """Tests whether photos, features and predictions have changed.

    Args:
        before, now: `Group`.
        class_names: tuple of C str.

    Returns:
        dict: images of both; questions, a list of dict with name, distance, p_value (adjusted
        for their number) and moved; statistics and classes, what was before and is now; moved.
    """
    # Of both together: the test is exact only if nothing tells which rows are the new ones.
    scale = np.concatenate([before.photos, now.photos]).std(axis=0) + 1e-6
    pairs = {
        "photos": (before.photos / scale, now.photos / scale),
        "features": (before.features, now.features),
        "predictions": (before.predictions, now.predictions),
    }
    tests = [energy_test(*pair) for pair in pairs.values()]
    adjusted = holm([p_value for _, p_value in tests])
    questions = [
        {
            "question": name,
            "distance": distance,
            "p_value": p_value,
            "moved": p_value < SIGNIFICANCE_LEVEL,
        }
        for name, (distance, _), p_value in zip(pairs, tests, adjusted)
    ]
    fractions = [
        np.bincount(group.predictions.argmax(axis=1), minlength=len(class_names)) / len(group.paths)
        for group in (before, now)
    ]
    return {
        "images": {"before": len(before.paths), "now": len(now.paths)},
        "moved": any(question["moved"] for question in questions),
        "questions": questions,
        "statistics": _table(NAMES, before.photos.mean(axis=0), now.photos.mean(axis=0)),
        "classes": _table(class_names, *fractions),
    }


def _table(names, before, now):
    return [
        {"name": name, "before": float(old), "now": float(new)}
        for name, old, new in zip(names, before, now)
    ]


def _distances(before, now):
    """float64 (M,), the mean distance of each new photo to the nearest validation photos."""
    count = min(NEIGHBOURS, len(before.paths))
    return NearestRows(before.features).find(now.features, count)[1].mean(axis=1)


def _write(options, result, now, distances, run):
    predicted = now.predictions.argmax(axis=1)
    order = np.argsort(-distances, kind="stable")
    rows = [
        (
            now.paths[position],
            f"{distances[position]:.4f}",
            run.class_names[predicted[position]],
            f"{now.predictions[position].max():.4f}",
            *(f"{number:.2f}" for number in now.photos[position]),
        )
        for position in order
    ]
    language = choose_language(options.lang)
    cards = [
        {
            **dict(zip(COLUMNS, row)),
            "probability": f"{float(row[3]):.1%}",
            "picture": html_pages.photo(row[0]),
            "place": html_pages.place(row[0], options.data),
        }
        for row in rows[:SHOWN]
    ]
    texts = texts_of(language)
    statistics = [
        {**row, "name": texts(f"statistic.{row['name']}")} for row in result["statistics"]
    ]
    percentages = [
        {"name": row["name"], "before": 100 * row["before"], "now": 100 * row["now"]}
        for row in result["classes"]
    ]
    page = render(
        "drift.html",
        language,
        result=result,
        statistics=statistics,
        classes=percentages,
        cards=cards,
        run=html_pages.place(run.path),
        level=SIGNIFICANCE_LEVEL,
    )
    with output_folder(options.target, FILES) as folder:
        write_text(os.path.join(folder, PAGE), page)
        write_table(os.path.join(folder, TABLE), COLUMNS, rows)


def _text(result):
    images = result["images"]
    lines = [
        f"{images['now']:,} new photos against {images['before']:,} validation photos: "
        + ("something has changed" if result["moved"] else "no change was found"),
        "",
    ]
    for row in result["questions"]:
        verdict = "changed" if row["moved"] else "no change found"
        lines.append(f"  {row['question']:<12} p = {row['p_value']:.3f}  {verdict}")
    for title, name, width in (("photos", "statistics", ".1f"), ("predicted", "classes", ".1%")):
        lines += ["", f"{title:<22} {'before':>8}  {'now':>8}"]
        lines += [
            f"  {row['name']:<20} {row['before']:>8{width}}  {row['now']:>8{width}}"
            for row in result[name]
        ]
    return "\n".join([*lines, "", f"page: {result['page']}"])
