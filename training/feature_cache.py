"""Features of photos that several trainings of the same frozen network share."""

import json
import os

import numpy as np

from common.errors import ImageError
from common.files import replacing
from data.photo_files import absolute


class FeatureCache:
    """Features of photos by their paths, in a file that survives the process.

    Args:
        path: str, the .npz; it is read where it is there, and made where not.

    Example:
        >>> features = FeatureCache("features.npz")
        >>> for options in each_options:
        ...     train.fit(options, features=features)  # each photo goes through the network once
    """

    def __init__(self, path):
        self._path = path
        self._digest = None
        self._rows = {}  # photo -> float32 (V, D): of the image, and of the mirrored one
        self._errors = {}  # photo -> `ImageError`

    def open(self, digest):
        """Takes what the file has of a network; what another has computed is dropped.

        Args:
            digest: str, what tells the network, its input and the number V of views from others.
        """
        if digest != self._digest:
            self._digest, self._rows, self._errors = digest, {}, {}
            self._read()

    def _read(self):
        try:
            with np.load(self._path, allow_pickle=False) as arrays:
                content = json.loads(str(arrays["description"]))
                if content["digest"] == self._digest:
                    self._rows = dict(zip(content["photos"], arrays["features"], strict=True))
                    self._errors = {
                        photo: ImageError(*error) for photo, error in content["errors"].items()
                    }
        except Exception:  # missing or damaged: computed anew
            self._rows, self._errors = {}, {}

    def is_known(self, photos):
        """bool (N,), which of some photos are known.

        Args:
            photos: list of N str, paths.
        """
        return np.array(
            [photo in self._rows or photo in self._errors for photo in photos], bool
        ).reshape(len(photos))

    def get(self, photo):
        """The features of a photo that is known: float32 (V, ...), or None if it is undecodable."""
        return self._rows.get(photo)

    def error(self, photo):
        """The `ImageError` of a photo that is known to be undecodable."""
        return self._errors[photo]

    def add(self, photo, views, error=None):
        """Notes the features of a photo, float32 (V, ...), or that it cannot be decoded."""
        if error is None:
            self._rows[photo] = np.array(views, np.float32)
        else:
            self._errors[photo] = error

    def write(self):
        """Writes the file, whole or not at all.

        Raises:
            OSError: the disk is full.
        """
        photos = list(self._rows)
        errors = {
            photo: (error.name, error.reason, error.code) for photo, error in self._errors.items()
        }
        description = json.dumps({"digest": self._digest, "photos": photos, "errors": errors})
        features = np.stack([self._rows[photo] for photo in photos]) if photos else np.zeros(0)
        with replacing(self._path) as partial, open(partial, "wb") as file:
            np.savez(file, features=features, description=np.array(description))


def photo_paths(samples):
    """list of str, the paths by which photos are known.

    Args:
        samples: `samples.Samples`.
    """
    folder = absolute(samples.folder)
    return [os.path.join(folder, name) for name in samples.file_names]
