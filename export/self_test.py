"""Test vectors of an exported model: pictures, the pixels made of them, and the model's answers.

Whoever brings the model to another language or device proves it with them. The pictures are drawn,
so that no photo of anybody goes along. They are PNGs, which every decoder reads alike, and each
shows one thing that goes wrong easily: odd sizes, both kinds of resizing, transparency, grey, EXIF.
"""

import hashlib
import json
import os

import numpy as np
from PIL import Image

from common.files import write_text
from data.decoding import load
from prediction.exported_model import describe_preprocessing

FOLDER, TABLE = "self_test", "vectors.json"
ORIENTATION_TAG, TURNED = 0x0112, 6  # of EXIF: the stored picture has to be turned clockwise


def write(folder, preprocessing, predict):
    """Writes the folder `self_test` of an exported model.

    Args:
        folder: str, the folder of the exported model, which has no folder `self_test` yet.
        preprocessing: `geometry.Preprocessing` of the model.
        predict: function from a list of uint8 (S, S, 3) to the trained model's `Answers`.
    """
    test_folder = os.path.join(folder, FOLDER)
    os.mkdir(test_folder)
    names = _write_pictures(test_folder, preprocessing.size)
    squares = [load(os.path.join(test_folder, name), preprocessing) for name in names]
    answers = predict(squares)
    vectors = []
    for position, (name, square) in enumerate(zip(names, squares)):
        pixels_name = name.replace(".png", ".pixels.png")
        Image.fromarray(square).save(os.path.join(test_folder, pixels_name), optimize=True)
        vector = {
            "image": name,
            "pixels": pixels_name,
            "sha256": hashlib.sha256(square.tobytes()).hexdigest(),
            "probabilities": [float(value) for value in answers.probabilities[position]],
        }
        if answers.similarities is not None:
            vector["similarity"] = float(answers.similarities[position])
        vectors.append(vector)
    content = {"preprocessing": describe_preprocessing(preprocessing), "vectors": vectors}
    write_text(os.path.join(test_folder, TABLE), json.dumps(content, indent=1) + "\n")


def _write_pictures(test_folder, size):
    """Writes the pictures, as PNG; their names."""
    exif_block = Image.Exif()
    exif_block[ORIENTATION_TAG] = TURNED
    pictures = {  # name -> (height, width), mode, what is saved with it
        "landscape": ((size * 11 // 10 + 1, size * 23 // 10 | 1), "RGB", {}),  # to below a half
        "portrait": ((size * 13 // 10 | 1, size * 7 // 10 | 1), "RGB", {}),  # to above a half
        "small": ((29, 37), "RGB", {}),
        "thin": ((5, size * 5 // 2 | 1), "RGB", {}),
        "pixel": ((1, 1), "RGB", {}),
        "square": ((size, size), "RGB", {}),
        "transparent": ((47, 61), "RGBA", {}),
        "grey": ((97, 131), "L", {}),
        "turned": ((61, 90), "RGB", {"exif": exif_block}),
    }
    for name, (shape, mode, extras) in pictures.items():
        image = Image.fromarray(_draw(*shape)).convert(mode)
        image.save(os.path.join(test_folder, f"{name}.png"), optimize=True, **extras)
    return [f"{name}.png" for name in pictures]


def _draw(height, width):
    """uint8 (height, width, 4): a ramp, tiles and a disc, with edges that resizing changes.

    The opacity falls from the top to the bottom.
    """
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    ramp = 255 * columns / max(width - 1, 1)
    tile_side = max(3, min(height, width) // 6)
    tiles = 255 * ((rows // tile_side + columns // tile_side) % 2)
    radius = np.hypot(rows - height / 3, columns - width / 3) / max(height, width)
    disc = np.where(radius < 0.25, 230.0, 40.0)
    opacity = 255 * (1 - rows / max(height - 1, 1)) if height > 1 else np.full_like(rows, 255)
    return np.stack([ramp, tiles, disc, opacity], axis=2).round().astype(np.uint8)
