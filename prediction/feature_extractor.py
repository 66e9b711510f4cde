"""Images in, features of a backbone or of a run's network out."""

import os
import tempfile

import numpy as np

from common.console import say
from common.errors import InputError
from compute.backend import import_keras
from data.geometry import Preprocessing
from modeling import backbones
from modeling.architecture import Architecture
from prediction.exported_model import describe_preprocessing, parse_preprocessing
from prediction.loading import best_model
from prediction.streaming import stream
from runs import run_folder

SAME_COSINE = 0.99  # of the features of two runtimes: bfloat16 gives 0.999


def _graph(architecture):
    """str, what decides the features of an image beside the weights."""
    return repr(architecture._replace(dropout=0, drop_connect=0, head=None, neighbour_count=None))


class FeatureExtractor:
    """A network without its head, with everything it needs to turn image files into features.

    Attributes:
        source: dict, what it was made from: backbone and weights, or run, as str.
        digest: str, SHA-256 of its graph and weights, in hex.
        preprocessing: `geometry.Preprocessing` of its images.
        size: int, the number D of features of an image.

    Args:
        source: dict, as above.
        architecture: `Architecture` of the classifier.
        model: Keras classifier of `build_model`.
        preprocessing: `geometry.Preprocessing`.

    Example:
        >>> extractor = FeatureExtractor.from_backbone("EfficientNetLite0")
        >>> features = [row for _, row in extractor.stream(["glass.jpg", "metal.jpg"])]
    """

    def __init__(self, source, architecture, model, preprocessing):
        from modeling.feature_model import cut_head, weights_digest

        self._model, self._head = cut_head(model)
        self.source = source
        self.digest = weights_digest(self._model, _graph(architecture))
        self.preprocessing = preprocessing
        self.size = self._model.output.shape[-1]

    @classmethod
    def from_backbone(cls, backbone, weights="imagenet", preprocessing=None):
        """The features of a pretrained backbone, averaged over its last feature map.

        Args:
            backbone: str, a key of `backbones.TABLE`, or "hub:PRESET".
            weights: str, as of `build_model`.
            preprocessing: `geometry.Preprocessing`; None is the backbone's usual size, stretched.

        Returns:
            `FeatureExtractor`.

        Raises:
            InputError: the weights do not fit, or their package is not installed.
            RunError: the weights cannot be downloaded.
        """
        import_keras()
        from modeling.builder import build_model

        if preprocessing is None:
            preprocessing = Preprocessing(backbones.find(backbone).input_size)
        architecture = Architecture(backbone, preprocessing.size, dropout=0.0)
        source = {"backbone": backbone, "weights": weights}
        return cls(source, architecture, build_model(architecture, 1, weights), preprocessing)

    @classmethod
    def from_run(cls, run):
        """The features that a run's best weights compute, before its head.

        Args:
            run: `run_folder.Run`.

        Returns:
            `FeatureExtractor`.

        Raises:
            InputError: the run's weights are missing or damaged.
        """
        import_keras()
        source = {"run": os.path.abspath(run.path)}
        architecture = run_folder.architecture(run.options)
        return cls(source, architecture, best_model(run), run.preprocessing)

    @classmethod
    def again(cls, description, path):
        """The extractor that computed a file of features.

        Args:
            description: dict, of a `FeatureFile`.
            path: str, the file, for errors.

        Returns:
            `FeatureExtractor`; whether its weights are still the same is for the caller to check.

        Raises:
            InputError: its run is gone, or it is not such a description.
        """
        try:
            source = description["source"]
            preprocessing = parse_preprocessing(description["preprocessing"])
            run_path = source.get("run")
            if not run_path:
                return cls.from_backbone(source["backbone"], source["weights"], preprocessing)
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: says nothing about its network: {error!r}") from None
        return cls.from_run(run_folder.read(run_path))

    def stream(self, paths, batch_size=32, workers=1):
        """Computes the features of many images; decoding runs ahead of the network.

        Args:
            paths: list of image files.
            batch_size: int, images that the network takes at once.
            workers: int, threads that decode.

        Yields:
            (path, answer) in the order of `paths`: float32 (D,) features, or the ImageError of an
            image that cannot be decoded.
        """

        def compute(images):
            return self.compute(images, batch_size)

        return stream(paths, self.preprocessing, compute, batch_size, workers)

    def compute(self, images, batch_size):
        """The features of decoded images.

        Args:
            images: uint8 (N, S, S, 3), RGB, N at most `batch_size`.
            batch_size: int, the same in all calls, or TensorFlow traces the network again.

        Returns:
            float32 (N, D).
        """
        full_batch = np.resize(images, (batch_size, *images.shape[1:]))
        return np.asarray(self._model.predict_on_batch(full_batch), np.float32)[: len(images)]

    def probabilities(self, features):
        """What the run's head makes of features.

        Args:
            features: float32 (N, D).

        Returns:
            float32 (N, C).
        """
        return np.asarray(self._head(features, training=False))

    def describe(self):
        """dict, what a file of features says about where they come from."""
        return {
            "source": self.source,
            "digest": self.digest,
            "preprocessing": describe_preprocessing(self.preprocessing),
        }

    def use_openvino(self):
        """Computes with OpenVINO from now on, where it is installed and gives the same features.

        On a processor it is about twice as fast as Keras. Features are computed in bfloat16 where
        the processor has it: good for comparing photos with each other, not to be mixed with
        features of Keras.

        Returns:
            bool, whether it does.
        """
        try:
            import openvino
        except ImportError:
            return False
        side = self.preprocessing.size
        images = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8)
        expected = self.compute(images, 2)
        try:
            with tempfile.TemporaryDirectory() as folder:
                self._model.export(folder, verbose=False)  # TensorFlow's SavedModel
                network = openvino.compile_model(openvino.convert_model(folder), "CPU")
        except Exception as error:  # of many types, by the backend and the converter
            say(f"note: features are computed by Keras, not OpenVINO: {type(error).__name__}")
            return False

        def compute(images, batch_size):
            return np.asarray(network(np.asarray(images, np.float32))[0], np.float32)

        answers = compute(images, 2)
        lengths = np.linalg.norm(answers, axis=1) * np.linalg.norm(expected, axis=1)
        if not ((answers * expected).sum(axis=1) > SAME_COSINE * lengths).all():
            return False
        self.compute = compute
        return True
