"""Downloading a backbone's ImageNet weights from Keras's store or from a mirror of it."""

import os

from common.console import say
from common.errors import RunError
from efficientnet import lite_packages
from modeling import backbones
from modeling.downloads import Expected, checksum_like, download, reason_of, without_password
from modeling.imagenet_weights import cache_folder, imagenet_file

VARIABLE = "WEIGHTS_URL"  # environment: the mirror of a whole site
STORE_ROOT = "/keras-applications/"  # in each address of Keras's store, before what a mirror has
SIGNATURE = b"\x89HDF\r\n\x1a\n"  # the first bytes of every HDF5 file
MOST_BYTES = 2 * 10**9  # the largest file, ConvNeXtXLarge, has 1.4 * 10^9


def is_needed(weights, backbone):
    """bool, whether a training starts from weights that Keras publishes.

    Args:
        weights: str, the value of --weights.
        backbone: str, the value of --backbone.
    """
    in_package = backbone.startswith(backbones.HUB) or lite_packages.is_lite(backbone)
    return weights == "imagenet" and not in_package


def fetch(backbone, mirror=None):
    """Brings the ImageNet weights of a backbone into Keras's cache, unless they are there.

    Args:
        backbone: str, a backbone whose weights Keras publishes.
        mirror: str, address below which a mirror has Keras's files, under the paths that they
            have below `STORE_ROOT`; None for that of the environment variable WEIGHTS_URL, or
            else Keras's store.

    Returns:
        str, path of the file.

    Raises:
        RunError: the file cannot be had; says why and what to do instead. The cache is as it was.

    Example:
        >>> fetch("ResNet50", "https://mirror.example/keras")
        '/home/me/.keras/models/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5'
    """
    file_name, address, checksum = imagenet_file(backbone)
    path = os.path.join(cache_folder(), file_name)
    if os.path.isfile(path):
        if not checksum or checksum_like(checksum, path) == checksum:
            return path
        say(f"{path}: is damaged, or another file: it is downloaded again")
    option = "--weights_url" if mirror else VARIABLE
    mirror = mirror or os.environ.get(VARIABLE)
    if mirror:
        address = mirror.rstrip("/") + "/" + address.split(STORE_ROOT, 1)[1]
    shown = without_password(address)
    say(f"downloading {shown}")
    try:
        download(
            address,
            path,
            Expected("an HDF5 file", SIGNATURE, MOST_BYTES, checksum, _problem_of_hdf5),
        )
    except Exception as error:
        reason = reason_of(error)
        if reason is None:
            raise
        if mirror:
            raise RunError(f"{option}: {shown}: {reason}") from None
        raise RunError(
            f"--weights imagenet: the weights of {backbone} cannot be downloaded ({reason}). "
            f"Without a network: {_installed_start()}train from scratch with --weights none, "
            f"take them from a mirror with --weights_url BASE, or download {address} elsewhere "
            f"and save it in {cache_folder()} as {file_name}, or give its path with "
            "--weights PATH"
        ) from None
    return path


def _installed_start():
    """The part of an error message that names a backbone whose weights are installed."""
    names = lite_packages.installed()
    return f"--backbone {names[0]} has its weights installed, or " if names else ""


def _problem_of_hdf5(path):
    """Why a file that has no checksum is not whole, or ""."""
    import h5py

    try:
        h5py.File(path, "r").close()
    except OSError:
        return "is damaged, or ends too early"
    return ""
