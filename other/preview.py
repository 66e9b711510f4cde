"""A picture of a training batch: the images as the model sees them, with their labels."""

import math
import os

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from common import console, output_places
from common.console import say
from common.errors import InputError
from common.files import replacing
from common.write_errors import write_error
from compute.backend import import_keras
from config.mode_options import PreviewOptions
from data.prefetching import Reading
from data.several_places import paths_of, read_all
from other.reporting.fonts import FONTS
from runs import run_folder
from training.batches import training_variation

MIN_IMAGES, MAX_IMAGES = 16, 64  # images shown, where there are as many
MIN_SIDE, MAX_SIDE = 160, 320  # pixels: smaller images are enlarged, larger ones shrunk
LETTER_SIZE, CELL_GAP = 14, 8  # pixels: size of the letters, space around a cell


def main(options: PreviewOptions):
    """`--mode preview`: all of --train_data, none held out, as the first epoch mixes it."""
    training_paths = ", ".join(map(os.path.realpath, paths_of(options.train_data)))
    place = output_places.choose_target(options, train_data=training_paths)
    options = options._replace(target=place.path)
    _check_target(options.target)
    samples, class_names, _ = read_all(options.train_data, labels_path=options.labels)
    images, labels, sample_weight = first_images(options, class_names, samples)
    captions = [
        caption(row, options.label_smoothing) if weight else [(None, None)]
        for row, weight in zip(labels, sample_weight)
    ]
    _write(options.target, draw_grid(images, captions, class_names))
    place.record()
    result = {"target": options.target, "images": len(images)}
    console.show(result, "{images} images of the first epoch in {target}".format_map, options.json)


def _write(target, picture):
    try:
        with replacing(target) as partial_path:
            picture.save(partial_path, format="PNG")
    except OSError as error:
        raise write_error(error, target, "--target") from None


def _check_target(target):
    folder = os.path.dirname(os.path.abspath(target))
    if os.path.isdir(target):
        raise InputError(f"--target: {target} is a folder; a name for the PNG file is needed")
    if not target.lower().endswith(".png"):
        raise InputError(f"--target: {target!r} does not end in .png, the format that is written")
    if not os.path.isdir(folder):
        raise InputError(f"--target: {folder}: no such folder")


def first_images(options, class_names, samples):
    """The first images of the first epoch, made as training makes them.

    Args:
        options: the options of `--mode preview`.
        class_names: tuple of str, in the order of their ids.
        samples: `Samples`.

    Returns:
        (x, y, weights) as a batch of `ImageBatches`: whole batches until there are
        `MIN_IMAGES` images, cut to `MAX_IMAGES`.
    """
    import_keras()
    from data_gen_label import ImageBatches

    batches = ImageBatches(
        samples,
        len(class_names),
        options.batch_size,
        run_folder.preprocessing(options),
        training_variation(options),
        reading=Reading(options.workers, queue=0, report=say),
    )
    try:
        count = min(math.ceil(MIN_IMAGES / options.batch_size), len(batches))
        made = [batches[index] for index in range(count)]
    finally:
        batches.close()
    return tuple(np.concatenate(part)[:MAX_IMAGES] for part in zip(*made))


def caption(row, label_smoothing=0.0):
    """The two classes with the largest shares of a label row.

    Args:
        row: float (C,), shares.
        label_smoothing: a class with no more than its even share of this is left out.

    Returns:
        [(class id, share)], the largest share first.
    """
    top = np.argsort(-row, kind="stable")[:2]
    least = label_smoothing / len(row) + 1e-3
    return [(int(number), float(row[number])) for number in top if row[number] > least]


def draw_grid(images, captions, class_names):
    """Draws images in a grid, each with its caption below.

    Args:
        images: uint8 (N, S, S, 3), RGB.
        captions: for each image [(class id, share)]; a class id None stands for an
            image that could not be decoded.
        class_names: list of str, in the order of their ids.

    Returns:
        `PIL.Image.Image`, RGB.
    """
    font, drawable = _font("".join(class_names))
    words = [name if set(name) <= drawable else f"class {n}" for n, name in enumerate(class_names)]
    columns = math.ceil(math.sqrt(len(images)))
    side = _side(images.shape[1])
    step_x, step_y = side + CELL_GAP, side + 3 * LETTER_SIZE + CELL_GAP
    rows = math.ceil(len(images) / columns)
    picture = Image.new("RGB", (columns * step_x + CELL_GAP, rows * step_y + CELL_GAP), "white")
    draw = ImageDraw.Draw(picture)
    for number, (image, shares) in enumerate(zip(images, captions)):
        left, top = CELL_GAP + number % columns * step_x, CELL_GAP + number // columns * step_y
        way = Image.Resampling.NEAREST if side > len(image) else Image.Resampling.LANCZOS
        picture.paste(Image.fromarray(image).resize((side, side), way), (left, top))
        # The edge of a picture that ends in white would be lost on white paper.
        draw.rectangle((left - 1, top - 1, left + side, top + side), outline="silver")
        text = _text(shares, words, font, side)
        draw.multiline_text((left, top + side + 2), text, fill="black", font=font)
    return picture


def _side(size):
    """Side of an image in the picture: whole multiples, so that pixels stay pixels."""
    return min(MAX_SIDE, size * max(1, MIN_SIDE // size))


def _text(shares, words, font, width):
    """A caption in one line, or two where one is too narrow."""
    if shares[0][0] is None:
        return "cannot be decoded"
    parts = [_shorten(words[number], f" {share:.2f}", font, width) for number, share in shares]
    line = ", ".join(parts)
    return line if font.getlength(line) <= width else ",\n".join(parts)


def _shorten(word, rest, font, width):
    """`word` and `rest`, the word cut so that a comma fits as well."""
    cut = word
    while cut and font.getlength(f"{cut}...{rest}," if cut != word else f"{word}{rest},") > width:
        cut = cut[:-1]
    return (cut if cut == word else f"{cut}...") + rest


def _font(text):
    """A font for `text`, the first that has all its letters, and the set of those it has."""
    letters = set(text)
    best = ImageFont.load_default(LETTER_SIZE)
    most = _known(best, letters)
    for name in FONTS:
        if most == letters:
            break
        try:
            font = ImageFont.truetype(name, LETTER_SIZE)
        except OSError:
            continue
        known = _known(font, letters)
        if len(known) > len(most):
            best, most = font, known
    if most != letters:
        say(
            "note: no font found for some class names, which are drawn as their ids; the package "
            "fonts-noto-cjk brings one"
        )
    return best, most


def _known(font, letters):
    """Those of `letters` that the font has: others look like one that no font has."""

    def pixels(letter):
        mask = font.getmask(letter)
        return mask.size, bytes(mask)

    missing = pixels("\uffff")
    return {letter for letter in letters if letter.isspace() or pixels(letter) != missing}
