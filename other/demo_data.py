"""A small real data set in the sample format: scikit-learn's handwritten digits.

1,797 scans of 8 x 8 pixels from 43 people (Alpaydin and Kaynak, "Optical
Recognition of Handwritten Digits", UCI, 1998), which are part of scikit-learn:
nothing is downloaded.
"""

import os

import cv2
import numpy as np

from common import console
from common.files import building
from common.write_errors import write_error
from config.mode_options import DemoDataOptions
from data.label_names import write_label_names
from data.samples import write_sample

SIZE = 32  # pixels per side; the scans are enlarged so that a person can see something
TEST_COUNT, VALIDATION_COUNT = 360, 180  # images; the other 1,257 are for training
CLASS_NAMES = [str(digit) for digit in range(10)]


def main(options: DemoDataOptions):
    """`--mode demo_data`: the first step of `--mode demo`, under its old name."""
    console.show(write(options.target, options.seed), _text, options.json)


def write(target, seed=0):
    """Writes `train_datasets`, `val_datasets` and `test_datasets` below `target`.

    Args:
        target: str, the folder to make; where it exists it must be empty.
        seed: int, which digits go where; every part has the same fraction of each class.

    Returns:
        dict: target, and images, a dict of folder name -> number.

    Raises:
        InputError: `target` is not empty or cannot be made.

    Example:

    ```python
    write("digits")["images"]["train_datasets"]  # 1257
    ```
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    parts = _split(digits.target, seed)
    try:
        with building(target) as partial:
            for part_name, indices in parts.items():
                folder = os.path.join(partial, part_name)
                os.makedirs(folder)
                write_label_names(folder, CLASS_NAMES)
                for index in sorted(indices):
                    _write_digit(folder, f"digit_{index:04}.png", digits, index)
    except OSError as error:
        raise write_error(error, target, "--target") from None
    return {"target": target, "images": {name: len(indices) for name, indices in parts.items()}}


def _split(class_ids, seed):
    """dict of folder name -> the indices of its digits."""
    from sklearn.model_selection import train_test_split

    remaining, test = train_test_split(
        np.arange(len(class_ids)), test_size=TEST_COUNT, stratify=class_ids, random_state=seed
    )
    training, validation = train_test_split(
        remaining, test_size=VALIDATION_COUNT, stratify=class_ids[remaining], random_state=seed
    )
    return {"train_datasets": training, "val_datasets": validation, "test_datasets": test}


def _write_digit(folder, file_name, digits, index):
    scan = np.round(digits.images[index] * (255 / 16)).astype(np.uint8)
    image = cv2.resize(scan, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    image_path = os.path.join(folder, file_name)
    with open(image_path, "wb") as image_file:
        image_file.write(cv2.imencode(".png", image)[1])
    write_sample(folder, file_name, digits.target[index])


def _text(result):
    return "\n".join(
        f"{count:>6} digits in {os.path.join(result['target'], part_name)}"
        for part_name, count in result["images"].items()
    )
