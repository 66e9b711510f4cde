"""Features of every photo, by a pretrained backbone or by a run, in one file for other programs."""

import os

from common import console, output_places
from common.errors import InputError, first_ten
from common.files import check_writable
from common.tables import READING, write_table
from common.write_errors import write_error
from config.mode_options import EmbedOptions, SimilarOptions
from data.csv_labels import list_photos
from data.geometry import Preprocessing
from data.photo_files import absolute
from modeling import backbones, weight_download
from prediction.embedding import embed
from prediction.feature_extractor import FeatureExtractor
from runs import run_folder
from training.resume import check_weights

COLUMNS = ("row", "path")
HUB_SIZE = 224  # of a KerasHub preset, about which nothing is known here


def main(options: EmbedOptions):
    """`--mode embed`."""
    image_paths = [absolute(path) for path in list_photos(options.data, "--data")]
    place = output_places.choose_target(options, data=options.data)
    options = options._replace(target=place.path)
    csv_path = check_target(options.target)
    extractor = open_extractor(options)
    try:
        embedding = embed(
            extractor,
            image_paths,
            options.target,
            options.unit_length,
            options.batch_size,
            options.workers,
        )
        rows = ((row, str(path)) for row, path in enumerate(embedding.content.paths))
        write_table(csv_path, COLUMNS, rows)
        place.record()
    except OSError as error:
        raise write_error(error, options.target, "--target") from None
    result = {
        "target": options.target,
        "csv": csv_path,
        "images": len(embedding.content.paths),
        "features": extractor.size,
        "computed": embedding.computed,
        "undecodable": [str(error) for error in embedding.errors],
        **extractor.describe(),
    }
    console.show(result, _text, options.json)


def check_target(target):
    """Refuses a file of features that could not be written, or that other programs misread.

    Args:
        target: str, value of `--target`.

    Returns:
        str, the path of the table beside it.

    Raises:
        InputError: its folder does not exist, its name does not end with .npz, or the table would
            replace another file.
    """
    if not target.endswith(".npz"):
        raise InputError(f"--target: {target}: the name of a file of features ends with .npz")
    check_writable(target, "--target")
    csv_path = target.removesuffix(".npz") + ".csv"
    check_writable(csv_path, "--target")
    if os.path.exists(csv_path):
        with open(csv_path, **READING) as csv_file:
            header = csv_file.readline().strip()
        if header != ",".join(COLUMNS):
            raise InputError(
                f"--target: {target}: the table beside it would replace {csv_path}, which is not "
                "one of --mode embed; name another file"
            )
    return csv_path


def open_extractor(options: EmbedOptions | SimilarOptions):
    """The network that computes features: of --run, else of --backbone.

    Args:
        options: options of a mode.

    Returns:
        `FeatureExtractor`.

    Raises:
        InputError: --run is an exported model, or options do not go together.
    """
    if options.run:
        given = [name for name in ("backbone", "weights", "input_size") if name in options.given]
        if given:
            raise InputError(f"--{given[0]}: has no effect with --run, whose network is taken")
        return FeatureExtractor.from_run(run_folder.find_trained(options.run, options.save_dir))
    check_weights(options.weights, options.backbone)
    known = backbones.find(options.backbone)
    size = options.input_size or (known.input_size if known else HUB_SIZE)
    if known and size < known.min_size:
        raise InputError(
            f"--input_size: {size} is too small for {options.backbone}; its minimum is "
            f"{known.min_size}"
        )
    if weight_download.is_needed(options.weights, options.backbone):
        weight_download.fetch(options.backbone)
    return FeatureExtractor.from_backbone(options.backbone, options.weights, Preprocessing(size))


def say_undecodable(errors, image_count):
    """One line on standard error about photos that are left out, if there are any.

    Args:
        errors: list of `ImageError`.
        image_count: int, photos in all.
    """
    if errors:
        console.say(
            f"{len(errors)} of {image_count} photos cannot be decoded and are left out: "
            f"{first_ten(map(str, errors))}"
        )


def _text(result):
    network = " ".join(result["source"].values())
    lines = [
        f"{result['target']}: {result['images']:,} photos, {result['features']:,} features each, "
        f"of {network} ({result['computed']:,} computed now)"
    ]
    lines += [f"left out: {reason}" for reason in result["undecodable"]]
    return "\n".join(lines)
