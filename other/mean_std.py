"""Mean, variance and standard deviation of the pixels of a folder's images, per channel."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from common import console, output_places
from common.errors import ImageError, InputError, first_ten
from common.files import write_text
from common.write_errors import write_error
from config.mode_options import MeanStdOptions
from data import remote_places
from data.csv_labels import list_photos
from data.decoding import decode, load
from data.geometry import Preprocessing
from data.photo_files import read_photo

SLICE = 16  # images per task, so that handing them to a thread costs little
FULL_SIZE = 1 << 20  # pixels; for an input as large as this JPEGs are decoded at their full size


def main(options: MeanStdOptions):
    """`--mode mean_std`."""
    image_paths = list_photos(options.source)
    place = output_places.choose_target(options, source=options.source)
    options = options._replace(target=place.path)
    _check_target(options.target)
    size = FULL_SIZE if options.original else options.input_size
    preprocessing = Preprocessing(size, options.resize, options.fill_color)
    moments, errors = measure(image_paths, preprocessing, options.workers, options.original)
    if not moments.pixels:
        raise InputError(f"--source: {options.source}: no image can be decoded; {errors[0]}")
    result = _result(moments, errors, len(image_paths), options)
    _write(options.target, result)
    place.record()
    console.show({**result, "target": options.target}, _text, options.json)


def _check_target(target):
    folder = os.path.dirname(os.path.abspath(target))
    if not os.path.isdir(folder) or os.path.isdir(target):
        raise InputError(
            f"--target: {target} cannot be written: its folder does not exist, or it is a folder "
            "itself; name a JSON file"
        )


class Moments(NamedTuple):
    """Moments of the pixels seen so far, per channel; values are 0-255.

    Attributes:
        pixels: int, the number of pixels.
        mean: float64 (3,), RGB.
        squares: float64 (3,), the sum of squared differences from the mean.

    Example:

    ```python
    moments = of_image(first_image).merge(of_image(second_image))
    moments.mean, moments.variance
    ```
    """

    pixels: int = 0
    mean: np.ndarray = np.zeros(3)
    squares: np.ndarray = np.zeros(3)

    @property
    def variance(self):
        """float64 (3,), over all pixels: not the estimate from a sample, which divides by N - 1."""
        return self.squares / self.pixels

    def merge(self, other):
        """The `Moments` of both together, computed without cancellation.

        Chan, Golub and LeVeque 1979, "Updating Formulae and a Pairwise Algorithm for
        Computing Sample Variances", equation 2.1.

        Args:
            other: `Moments`.
        """
        pixels = self.pixels + other.pixels
        difference = other.mean - self.mean
        mean = self.mean + difference * (other.pixels / pixels)
        between = difference**2 * (self.pixels * other.pixels / pixels)
        return Moments(pixels, mean, self.squares + other.squares + between)


def of_image(image):
    """The `Moments` of one image.

    Args:
        image: uint8 (height, width, 3), RGB.
    """
    mean, deviation = cv2.meanStdDev(image)
    pixel_count = image.shape[0] * image.shape[1]
    return Moments(pixel_count, mean[:, 0], deviation[:, 0] ** 2 * pixel_count)


def measure(paths, preprocessing, workers=1, original=False):
    """Measures images in one pass.

    Args:
        paths: list of str, image files.
        preprocessing: `geometry.Preprocessing` of the model's input, whose pixels are measured,
            including the bars of a letterbox.
        workers: int, threads that decode.
        original: bool, measure the pixels of the files, before they are resized to the input.

    Returns:
        (`Moments`, list of `ImageError`); the same for any number of threads.
    """
    read_image = _decode_file if original else load

    def measure_slice(slice_paths):
        moments, errors = Moments(), []
        for path in slice_paths:
            try:
                image = read_image(path, preprocessing)
            except ImageError as error:
                errors.append(error)
            else:
                moments = moments.merge(of_image(image))
        return moments, errors

    slices = [paths[start : start + SLICE] for start in range(0, len(paths), SLICE)]
    moments, errors = Moments(), []
    remote_places.announce(paths)
    with ThreadPoolExecutor(workers) as pool:
        bar = tqdm(total=len(paths), desc="measuring", unit=" images", leave=False, disable=None)
        for slice_paths, measured in zip(slices, pool.map(measure_slice, slices)):
            slice_moments, slice_errors = measured
            bar.update(len(slice_paths))
            errors += slice_errors
            if slice_moments.pixels:
                moments = moments.merge(slice_moments)
        bar.close()
    return moments, errors


def _decode_file(path, preprocessing):
    return decode(read_photo(path), preprocessing, path)


def _result(moments, errors, image_count, options):
    """What the JSON file holds."""
    return {
        "mean": moments.mean.tolist(),
        "variance": moments.variance.tolist(),
        "standard_deviation": np.sqrt(moments.variance).tolist(),
        "images": image_count - len(errors),
        "pixels": moments.pixels,
        "input_size": None if options.original else options.input_size,
        "resize": None if options.original else options.resize,
        "undecodable": [str(error) for error in errors],
    }


def _write(target, result):
    try:
        write_text(target, json.dumps(result, ensure_ascii=False) + "\n")
    except OSError as error:
        raise write_error(error, target, "--target") from None


def _text(result):
    lines = []
    for name in ("mean", "variance", "standard_deviation"):
        values = "".join(f"{value:12.4f}" for value in result[name])
        lines.append(f"{name.replace('_', ' '):<19}{values}   red, green, blue")
    lines.append(
        f"measured on {result['images']} images, {result['pixels']:,} pixels in 0-255; to train "
        f"with them: --normalize {result['target']}"
    )
    undecodable = result["undecodable"]
    if undecodable:
        lines.append(f"left out, {len(undecodable)} undecodable: {first_ten(undecodable)}")
    return "\n".join(lines)
