"""Mean, variance and standard deviation of a folder's pixels, a channel at a time."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from common.errors import ImageError, InputError, first_ten
from common.files import write_text
from data.decoding import decode, load
from data.geometry import Preprocessing
from data.image_files import EXTENSIONS

SLICE = 16  # images a task, so that handing them over costs little
FULL_SIZE = 1 << 20  # pixels; for an input as large as this JPEGs are decoded at their full size


def main(options):
    """`--mode mean_std`."""
    paths = find_images(options.source)
    folder = os.path.dirname(os.path.abspath(options.target))
    if not os.path.isdir(folder) or os.path.isdir(options.target):
        raise InputError(
            f"--target: {options.target} cannot be written: no such folder, or it is "
            "one; name a JSON file"
        )
    size = FULL_SIZE if options.original else options.input_size
    preprocessing = Preprocessing(size, options.resize, options.fill_color)
    moments, errors = measure(paths, preprocessing, options.workers, options.original)
    if not moments.pixels:
        raise InputError(f"--source: {options.source}: no image can be decoded; {errors[0]}")
    result = {
        "mean": moments.mean.tolist(),
        "variance": moments.variance.tolist(),
        "standard_deviation": np.sqrt(moments.variance).tolist(),
        "images": len(paths) - len(errors),
        "pixels": moments.pixels,
        "input_size": None if options.original else size,
        "resize": None if options.original else options.resize,
        "undecodable": [str(error) for error in errors],
    }
    try:
        write_text(options.target, json.dumps(result, ensure_ascii=False) + "\n")
    except OSError as error:
        raise InputError(
            f"--target: {options.target} cannot be written: {error.strerror}"
        ) from None
    if options.json:
        print(json.dumps({**result, "target": options.target}, ensure_ascii=False))
        return
    for name in ("mean", "variance", "standard_deviation"):
        print(
            f"{name.replace('_', ' '):<19}"
            + "".join(f"{value:12.4f}" for value in result[name])
            + "   red, green, blue"
        )
    print(
        f"of {result['images']} images, {moments.pixels:,} pixels in 0-255; train takes "
        f"--normalize {options.target}"
    )
    if errors:
        print(f"left out, {len(errors)} undecodable: {first_ten([str(each) for each in errors])}")


class Moments(NamedTuple):
    """Of the pixels seen so far, each channel's; values are 0-255.

    Attributes:
        pixels: their number.
        mean: float64 (3,), RGB.
        squares: float64 (3,), the sum of squared differences from the mean.
    """

    pixels: int = 0
    mean: np.ndarray = np.zeros(3)
    squares: np.ndarray = np.zeros(3)

    @property
    def variance(self):
        """Over all pixels, not an estimate from a sample: divided by their number."""
        return self.squares / self.pixels

    def merge(self, other):
        """The moments of both together, without cancellation.

        Chan, Golub and LeVeque 1979, "Updating Formulae and a Pairwise Algorithm for
        Computing Sample Variances", equation 2.1.
        """
        pixels = self.pixels + other.pixels
        difference = other.mean - self.mean
        mean = self.mean + difference * (other.pixels / pixels)
        between = difference**2 * (self.pixels * other.pixels / pixels)
        return Moments(pixels, mean, self.squares + other.squares + between)


def of_image(image):
    """The `Moments` of a uint8 image (height, width, 3)."""
    mean, deviation = cv2.meanStdDev(image)
    pixels = image.shape[0] * image.shape[1]
    return Moments(pixels, mean[:, 0], deviation[:, 0] ** 2 * pixels)


def measure(paths, preprocessing, workers=1, original=False):
    """One pass over images.

    Args:
        paths: list of image files.
        preprocessing: `geometry.Preprocessing` of the model's input, whose pixels count,
            bars included.
        workers: threads that decode.
        original: the pixels of the files count, before they are fitted into the input.

    Returns:
        (`Moments`, list of `ImageError`); the same for any number of threads.
    """

    def look(part):
        moments, errors = Moments(), []
        for path in part:
            try:
                image = (_decode_file if original else load)(path, preprocessing)
            except ImageError as error:
                errors.append(error)
            else:
                moments = moments.merge(of_image(image))
        return moments, errors

    parts = [paths[first : first + SLICE] for first in range(0, len(paths), SLICE)]
    moments, errors = Moments(), []
    with ThreadPoolExecutor(workers) as pool:
        bar = tqdm(total=len(paths), desc="measuring", unit=" images", leave=False, disable=None)
        for part, (found, failed) in zip(parts, pool.map(look, parts)):
            bar.update(len(part))
            errors += failed
            if found.pixels:
                moments = moments.merge(found)
        bar.close()
    return moments, errors


def _decode_file(path, preprocessing):
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise ImageError(path, error.strerror) from None
    return decode(data, preprocessing, path)


def find_images(folder):
    """The image files in a folder and the folders below it, sorted; links are not followed.

    Raises:
        InputError: there are none.
    """
    if not os.path.isdir(folder):
        raise InputError(f"--source: {folder}: no such folder")
    found = [
        os.path.join(parent, name)
        for parent, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(EXTENSIONS) and not name.startswith(".")
    ]
    if not found:
        raise InputError(f"--source: {folder}: no images; looked for {', '.join(EXTENSIONS)}")
    return sorted(found)
