"""The files of onnxruntime-web that a page needs, from its npm package: pinned, checked, cached."""

import os
import tarfile

from common.console import say
from common.errors import RunError
from modeling.downloads import Expected, checksum_like, download, reason_of, without_password
from modeling.imagenet_weights import cache_folder

VERSION = "1.30.0"
FILE_NAME = f"onnxruntime-web-{VERSION}.tgz"
SHA512 = (
    "ab4cbe26baedba45d2cec05610c71c55fa97db92d19a8b171c5f8269126683ca"
    "590a5cdc57bb2f35ce2b298de32f4d956fb42644c0ecd528a0a91e025c07ca61"
)
REGISTRY = "https://registry.npmjs.org"
VARIABLE = "npm_config_registry"  # environment: the registry that npm itself asks
GZIP, MOST_BYTES = b"\x1f\x8b", 60_000_000
# The script, and what it loads to compute with WebAssembly: no WebGL, no WebGPU. Their names in a
# page's folder end as those do that every static file server knows the type of.
FILES = {
    "ort.wasm.min.mjs": "onnxruntime.js",
    "ort-wasm-simd-threaded.mjs": "onnxruntime-wasm.js",
    "ort-wasm-simd-threaded.wasm": "onnxruntime.wasm",
}
LICENSE = "onnxruntime.LICENSE.txt"
LICENSE_TEXT = """ONNX Runtime Web {version}

MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""


def fetch():
    """Brings the package into the cache of downloads, unless it is there.

    Returns:
        str, path of the package, whose checksum is the published one.

    Raises:
        RunError: it cannot be had; says why and what to do instead. The cache is as it was.

    Example:
        >>> fetch()
        '/home/me/.keras/models/onnxruntime-web-1.30.0.tgz'
    """
    path = os.path.join(cache_folder(), FILE_NAME)
    if os.path.isfile(path):
        if checksum_like(SHA512, path) == SHA512:
            return path
        say(f"{path}: is damaged, or another file: it is downloaded again")
    mirror = os.environ.get(VARIABLE) or os.environ.get(VARIABLE.upper())
    address = f"{(mirror or REGISTRY).rstrip('/')}/onnxruntime-web/-/{FILE_NAME}"
    shown = without_password(address)
    say(f"downloading {shown}")
    try:
        download(address, path, Expected("an npm package", GZIP, MOST_BYTES, SHA512))
    except Exception as error:
        reason = reason_of(error)
        if reason is None:
            raise
        raise RunError(
            f"--format web: {shown}: {reason}; set the environment variable {VARIABLE} to a "
            f"mirror of npm's registry, or save {FILE_NAME} in {cache_folder()}"
        ) from None
    return path


def extract(package_path, folder):
    """Writes the files that a page needs, and their licence, into a folder.

    Args:
        package_path: str, what `fetch` returned.
        folder: str, an existing folder.
    """
    with tarfile.open(package_path) as package:
        for packed_name, file_name in FILES.items():
            with (
                package.extractfile(f"package/dist/{packed_name}") as source,
                open(os.path.join(folder, file_name), "wb") as target,
            ):
                target.write(source.read())
    license_text = LICENSE_TEXT.format(version=VERSION)
    with open(os.path.join(folder, LICENSE), "w", encoding="utf-8") as license_file:
        license_file.write(license_text)
