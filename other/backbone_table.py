"""The backbones as a table: size, cost, and whether their ImageNet weights are here."""

import os

from common import console
from config.mode_options import BackbonesOptions
from efficientnet import lite_packages
from modeling import backbones
from modeling.imagenet_weights import cache_folder, imagenet_file


def main(options: BackbonesOptions):
    """`--mode backbones`."""
    console.show(rows(), _text, options.json)


def _text(table_rows):
    lines = [f"{'backbone':<18} {'parameters':>11} {'GFLOPs':>7} {'input size':>10}  weights here"]
    lines += [
        f"{row['name']:<18} {row['parameters']:>11,} {row['gflops']:>7.3f} "
        f"{row['input_size']:>10}  {'yes' if row['weights_here'] else 'no'}"
        for row in table_rows
    ]
    lines.append(f"{backbones.HUB + 'PRESET':<18} an image classifier's backbone of KerasHub")
    return "\n".join(lines)


def rows():
    """One dict per backbone of `backbones.TABLE`, in its order.

    Keys: name, parameters (without head), gflops (10^9 multiply-adds of one image),
    input_size (pixels), weights_here (bool: the file lies in Keras's cache folder, or the
    package that brings it is installed).
    """
    folder, installed = cache_folder(), lite_packages.installed()
    return [
        {
            "name": name,
            "parameters": backbone.parameters,
            "gflops": backbone.gflops,
            "input_size": backbone.input_size,
            "weights_here": name in installed
            if lite_packages.is_lite(name)
            else os.path.isfile(os.path.join(folder, imagenet_file(name)[0])),
        }
        for name, backbone in backbones.TABLE.items()
    ]
