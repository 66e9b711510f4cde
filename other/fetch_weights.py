"""Brings a backbone's ImageNet weights to this machine, before training or for another one."""

from common import console
from common.errors import InputError
from config.mode_options import FetchWeightsOptions
from efficientnet import lite_packages
from modeling import backbones, weight_download


def main(options: FetchWeightsOptions):
    """`--mode fetch_weights`."""
    name = options.backbone
    if name.startswith(backbones.HUB):
        raise InputError(
            f"--backbone: {name!r}: KerasHub brings its presets itself, at the start of "
            f"--mode train; allowed here: {', '.join(backbones.TABLE)}"
        )
    if lite_packages.is_lite(name):
        path = lite_packages.checked_file(name)
    else:
        path = weight_download.fetch(name, options.weights_url)
    result = {"backbone": name, "weights": str(path)}
    console.show(
        result, "the ImageNet weights of {backbone} are in {weights}".format_map, options.json
    )
