"""Brings a backbone's ImageNet weights to this machine, before training or for another one."""

from common import console
from common.errors import InputError
from compute.backend import import_keras
from config.mode_options import FetchWeightsOptions
from efficientnet import lite_packages
from modeling import backbones
from modeling.imagenet_weights import imagenet_file


def main(options: FetchWeightsOptions):
    """`--mode fetch_weights`."""
    name = options.backbone
    if name.startswith(backbones.HUB):
        raise InputError(
            f"--backbone: {name!r}: KerasHub brings its presets itself, at the start of "
            f"--mode train; allowed here: {', '.join(backbones.TABLE)}"
        )
    path = lite_packages.checked_file(name) if lite_packages.is_lite(name) else _download(name)
    result = {"backbone": name, "weights": str(path)}
    console.show(
        result, "the ImageNet weights of {backbone} are in {weights}".format_map, options.json
    )


def _download(name):
    from modeling import weight_files  # h5py and NumPy, which the refusal does not need

    import_keras()
    return weight_files.fetch(name, *imagenet_file(name))
