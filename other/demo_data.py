"""A small real data set in the sample format: scikit-learn's handwritten digits.

1,797 scans of 8 x 8 pixels from 43 people (Alpaydin and Kaynak, "Optical
Recognition of Handwritten Digits", UCI, 1998), as they come with scikit-learn:
nothing is downloaded.
"""

import json
import os

import cv2
import numpy as np

from common.errors import InputError
from common.files import building
from data.samples import write_label_names, write_sample

SIZE = 32  # pixels a side; the scans are enlarged so that a person can see something
TEST, VALIDATION = 360, 180  # images; the other 1,257 are for training


def main(options):
    """`--mode demo_data`."""
    result = write(options.target, options.seed)
    if options.json:
        print(json.dumps(result))
        return
    for name, count in result["images"].items():
        print(f"{count:>6} digits in {os.path.join(result['target'], name)}")


def write(target, seed=0):
    """Writes `train_datasets`, `val_datasets` and `test_datasets` below `target`.

    Args:
        target: folder to make; where it exists it must be empty.
        seed: which digits go where; the classes have equal shares in each part.

    Returns:
        dict: target, and images, a dict of folder name -> number.

    Raises:
        InputError: `target` holds something already or cannot be made.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    rest, test = train_test_split(
        np.arange(len(digits.target)), test_size=TEST, stratify=digits.target, random_state=seed
    )
    training, validation = train_test_split(
        rest, test_size=VALIDATION, stratify=digits.target[rest], random_state=seed
    )
    parts = {"train_datasets": training, "val_datasets": validation, "test_datasets": test}
    try:
        with building(target) as partial:
            for name, numbers in parts.items():
                folder = os.path.join(partial, name)
                os.makedirs(folder)
                write_label_names(folder, [str(digit) for digit in range(10)])
                for number in sorted(numbers):
                    _write_digit(folder, f"digit_{number:04}.png", digits, number)
    except OSError as error:
        raise InputError(f"{error.filename or target}: {error.strerror}") from None
    return {"target": target, "images": {name: len(parts[name]) for name in parts}}


def _write_digit(folder, name, digits, number):
    scan = np.round(digits.images[number] * (255 / 16)).astype(np.uint8)
    image = cv2.resize(scan, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    if not cv2.imwrite(os.path.join(folder, name), image):
        raise OSError(0, "cannot be written", os.path.join(folder, name))
    write_sample(folder, name, digits.target[number])
