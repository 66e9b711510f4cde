"""The photos that look most like others, by the distance of their features."""

import os

from common import console, output_places
from common.errors import ImageError, InputError, raise_first
from common.files import write_text
from common.nearest import NearestRows
from common.tables import write_table
from common.write_errors import write_error
from config.mode_options import SimilarOptions
from data.csv_labels import list_photos
from data.image_files import find_images
from data.photo_files import absolute
from other.embed import open_extractor, say_undecodable
from other.reporting import html_pages
from other.reporting.charts import check_output_folder
from pages.languages import choose_language
from pages.rendering import render
from prediction import feature_files
from prediction.embedding import embed
from prediction.feature_extractor import FeatureExtractor

PAGE, TABLE, FEATURES = "index.html", "similar.csv", "features.npz"
FILES = (PAGE, TABLE, FEATURES, FEATURES + ".rows")
COLUMNS = ("image", "rank", "path", "distance")
NEIGHBOURS = 10
SHOWN = 200  # images on the page; all are in the table


def main(options: SimilarOptions):
    """`--mode similar`."""
    image_paths = find_images(options.image)
    place = output_places.choose_target(options, data=options.data)
    options = options._replace(target=place.path)
    check_output_folder(options.target, FILES)
    try:
        extractor, content = _photo_features(options)
        results, errors = find_similar(
            content,
            extractor.stream(image_paths, options.batch_size, options.workers),
            options.top_k or NEIGHBOURS,
        )
        _write(options, results, content.paths)
        place.record()
    except OSError as error:
        raise write_error(error, options.target, "--target") from None
    console.show(results, _text, options.json)
    raise_first(errors, len(image_paths))


def _photo_features(options):
    """The network, and the features of --data: read, or computed and kept in --target."""
    if options.data.endswith(".npz"):
        content = feature_files.read(options.data)
        feature_files.check_finite(options.data, content)
        gone = sum(not os.path.exists(path) for path in content.paths)
        if gone:
            console.say(f"{options.data}: {gone} of its {len(content.paths)} photos are gone")
        return _extractor_of(options, content), content
    photo_paths = [absolute(path) for path in list_photos(options.data, "--data")]
    extractor = open_extractor(options)
    os.makedirs(options.target, exist_ok=True)
    target = os.path.join(options.target, FEATURES)
    embedding = embed(
        extractor, photo_paths, target, batch_size=options.batch_size, workers=options.workers
    )
    say_undecodable(embedding.errors, len(photo_paths))
    return extractor, embedding.content


def _extractor_of(options, content):
    """The network that computed a file of features; refuses a file that another computed."""
    if options.run or options.given & {"backbone", "weights", "input_size"}:
        extractor = open_extractor(options)
    else:
        extractor = FeatureExtractor.again(content.description, options.data)
    known, own = content.description, extractor.describe()
    if any(known.get(name) != own[name] for name in ("digest", "preprocessing")):
        raise InputError(
            f"--data: {options.data}: its features were computed by "
            f"{' '.join(known['source'].values())} with other weights or another input than those "
            f"of {' '.join(extractor.source.values())} here; omit --backbone, --weights, "
            "--input_size and --run, or compute them again with --mode embed"
        )
    return extractor


def find_similar(content, answers, count):
    """The nearest photos of images.

    Args:
        content: `FeatureFile` of the photos.
        answers: iterable of (path, features or `ImageError`), as of `FeatureExtractor.stream`.
        count: int, photos per image, 1 or more; fewer where there are no more. A photo is not
            listed as similar to itself.

    Returns:
        (list of dict, one per image as `--json` shows it, list of `ImageError`).

    Raises:
        InputError: features are NaN or infinite.
    """
    search = NearestRows(content.features)
    results, errors = [], []
    for image_path, answer in answers:
        result = {"image": image_path}
        results.append(result)
        if isinstance(answer, ImageError):
            errors.append(answer)
            result["error"] = answer.reason
            continue
        rows, distances = search.find(answer[None], min(count + 1, len(content.paths)))
        own_path = os.path.abspath(image_path)
        result["similar"] = [
            {"path": str(content.paths[row]), "distance": round(float(distance), 6)}
            for row, distance in zip(rows[0], distances[0])
            if content.paths[row] != own_path
        ][:count]
    return results, errors


def _write(options, results, photo_paths):
    """Writes the page and the table."""
    target, folder = options.target, _common_folder(photo_paths)
    os.makedirs(target, exist_ok=True)
    rows = (
        (result["image"], rank, photo["path"], photo["distance"])
        for result in results
        for rank, photo in enumerate(result.get("similar", ()), 1)
    )
    write_table(os.path.join(target, TABLE), COLUMNS, rows)
    cards = [
        {
            "error": None,
            **result,
            "place": html_pages.place(result["image"]),
            "picture": html_pages.photo(result["image"]),
            "similar": [
                {
                    **photo,
                    "place": html_pages.place(photo["path"], folder),
                    "picture": html_pages.photo(photo["path"]),
                }
                for photo in result.get("similar", ())
            ],
        }
        for result in results[:SHOWN]
    ]
    page = render(
        "similar.html",
        choose_language(options.lang),
        cards=cards,
        more=max(0, len(results) - SHOWN),
    )
    write_text(os.path.join(target, PAGE), page)


def _common_folder(paths):
    """The folder that all paths are in, None where they are on several drives."""
    try:
        return os.path.commonpath([os.path.dirname(path) for path in paths])
    except ValueError:
        return None


def _text(results):
    lines = []
    for result in results:
        if "error" in result:
            lines.append(f"{result['image']}: {result['error']}")
            continue
        lines.append(result["image"])
        lines += [f"  {photo['distance']:.4f}  {photo['path']}" for photo in result["similar"]]
    return "\n".join(lines)
