"""The backbones as a table: size, cost, and whether their ImageNet weights are here."""

import json
import os

from modeling import backbones
from modeling.imagenet_weights import cache_folder, imagenet_file


def main(options):
    """`--mode backbones`."""
    found = rows()
    if options.json:
        print(json.dumps(found))
        return
    print(f"{'backbone':<18} {'parameters':>11} {'GFLOPs':>7} {'input size':>10}  weights here")
    for row in found:
        print(
            f"{row['name']:<18} {row['parameters']:>11,} {row['gflops']:>7.3f} "
            f"{row['input_size']:>10}  {'yes' if row['weights_here'] else 'no'}"
        )
    print(f"{backbones.HUB + 'PRESET':<18} an image classifier's backbone of KerasHub")


def rows():
    """One dict a backbone of `backbones.TABLE`, in its order.

    Keys: name, parameters (without head), gflops (10^9 multiply-adds of one image),
    input_size (pixels), weights_here (bool: the file lies in Keras's cache folder).
    """
    folder = cache_folder()
    return [
        {
            "name": name,
            "parameters": each.parameters,
            "gflops": each.gflops,
            "input_size": each.input_size,
            "weights_here": os.path.isfile(os.path.join(folder, imagenet_file(name)[0])),
        }
        for name, each in backbones.TABLE.items()
    ]
