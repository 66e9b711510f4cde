"""Which versions a result was made with."""

import platform
from importlib import metadata

PACKAGES = ("keras", "tensorflow", "tensorflow-cpu", "jax", "numpy", "opencv-python-headless")


def versions():
    """str, one line: the versions of Python and of the packages that affect the scores."""
    package_versions = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            package_versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(package_versions)
