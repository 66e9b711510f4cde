"""Training the head of a frozen backbone, on features that are computed once if wanted."""

import os
import tempfile

import keras
import numpy as np
from tqdm import tqdm

from compute.keras_patches import batch_norm_layers
from data_gen_label import as_dataset
from modeling.builder import backbone_layers
from modeling.feature_model import weights_digest
from runs import run_folder
from training.feature_cache import photo_paths

BYTES_PER_FEATURE = 4  # float32


class FrozenBatchNorm:
    """A context in which a model's batch normalization computes with what it knows.

    Its moving statistics, scale and offset stay as they are. A few images per step say little
    about the statistics of a data set, and a step takes two thirds of the time. The model has to
    be compiled inside, and again after it.

    Args:
        model: a Keras model of `build_model`.
    """

    def __init__(self, model):
        self.layers = batch_norm_layers(model)

    def __enter__(self):
        for layer in self.layers:
            layer.trainable = False

    def __exit__(self, *error):
        for layer in self.layers:
            layer.trainable = True


class FrozenBackbone:
    """A context in which a model's backbone does not change.

    Its weights are not trainable, so that its BatchNormalization computes with the moving
    statistics and leaves them alone; its dropout (stochastic depth) is off. The model has to be
    compiled inside, and again after it.

    Args:
        model: a Keras model of `build_model`.
    """

    def __init__(self, model):
        self.layers = backbone_layers(model)

    def __enter__(self):
        self.dropout_rates = [getattr(layer, "rate", None) for layer in self.layers]
        for layer in self.layers:
            layer.trainable = False
            if isinstance(layer, keras.layers.Dropout):
                layer.rate = 0.0

    def __exit__(self, *error):
        for layer, dropout_rate in zip(self.layers, self.dropout_rates):
            layer.trainable = True
            if isinstance(layer, keras.layers.Dropout):
                layer.rate = dropout_rate


def split_model(model, devices):
    """Cuts a model behind what a frozen backbone fixes.

    Args:
        model: a Keras model of `build_model`.
        devices: `Devices` that the head is trained on; the body runs on one.

    Returns:
        (body, head): Keras models from the model's input to features (B, ...), and from those
        to its output; they share the model's layers. Pooling belongs to the body where nothing
        before it learns.
    """
    # keras.Model gives its layers in the graph's order.
    following = [layer for layer in model.layers if layer not in set(backbone_layers(model))]
    first = following[0]
    cut = first.output if first.name == "pool" and not first.weights else first.input
    body = keras.Model(model.input, cut)
    with devices.scope():
        return body, keras.Model(cut, model.output)


def body_digest(body, options, mirrored):
    """What tells the features of one training from those of others.

    Args:
        body: Keras model from images to features, of `split_model`.
        options: the options of `--mode train`, resolved.
        mirrored: bool, whether each photo has features of the mirrored image as well.

    Returns:
        str, 64 hexadecimal digits.
    """
    architecture = run_folder.architecture(options)
    architecture = architecture._replace(dropout=0, drop_connect=0, head=None, neighbour_count=None)
    return weights_digest(body, repr((architecture, run_folder.preprocessing(options), mirrored)))


class FeatureBatches(keras.utils.PyDataset):
    """Batches of features, computed once, instead of images.

    A batch is (x, y, sample_weight) like one of `ImageBatches`, where x are features (B, ...),
    float32; the images come in the order of `ordered_batches`.

    Args:
        body: Keras model from images to features.
        image_batches: `ImageBatches`, neither shuffled nor augmented, for one device.
        ordered_batches: `ImageBatches` of the same samples, which say the order of each epoch.
        folder: str, where the features are kept, in files without a name.
        mirrored: bool, whether those of the mirrored images are computed as well, for `rows`.
        cache: `FeatureCache` opened for this body, which knows photos of other trainings; or None.
    """

    def __init__(self, body, image_batches, ordered_batches, folder, mirrored=False, cache=None):
        super().__init__(workers=1)
        self.ordered_batches = ordered_batches
        image_count = len(image_batches.samples.file_names)
        shape = (image_count, *body.output.shape[1:])
        self._x = _array_on_disk(shape, folder)
        self._mirrored_x = _array_on_disk(shape, folder) if mirrored else None
        self._class_ids = image_batches.samples.class_ids
        self._y = image_batches.labels(np.arange(image_count))
        self._sample_weight = np.ones(image_count, np.float32)
        unknown = np.ones(image_count, bool)
        if cache:
            photos = photo_paths(image_batches.samples)
            unknown = ~cache.is_known(photos)
            self._take(cache, photos, np.flatnonzero(~unknown))
        self._compute(body, image_batches, unknown)
        ordered_batches.undecodable.update(image_batches.undecodable)
        if cache and unknown.any():
            self._give(cache, photos, np.flatnonzero(unknown))

    def _views(self):
        """The arrays of features: of the images, and of the mirrored ones where there are any."""
        return [self._x] if self._mirrored_x is None else [self._x, self._mirrored_x]

    def _take(self, cache, photos, positions):
        for position in positions:
            features = cache.get(photos[position])
            if features is None:
                self.ordered_batches.undecodable[int(position)] = cache.error(photos[position])
                self._sample_weight[position] = 0
                continue
            for view, row in zip(self._views(), features, strict=True):
                view[position] = row

    def _give(self, cache, photos, positions):
        for position in positions:
            features = [view[position] for view in self._views()]
            error = self.ordered_batches.undecodable.get(int(position))
            cache.add(photos[position], features, error)
        cache.write()

    def _compute(self, body, image_batches, unknown):
        """Fills in the features of photos that are not known; their batches alone are read."""
        indices = [
            index
            for index in range(len(image_batches))
            if unknown[image_batches.rows(index)[0]].any()
        ]
        for index in tqdm(
            indices, "computing features", unit=" batches", leave=False, disable=None
        ):
            x, _, sample_weight = image_batches[index]
            positions, _ = image_batches.rows(index)
            # Always of one shape: for another TensorFlow would trace the network again.
            full_batch = np.resize(x, (image_batches.batch_size, *x.shape[1:]))
            self._x[positions] = np.asarray(body.predict_on_batch(full_batch))[: len(x)]
            if self._mirrored_x is not None:
                mirrored_batch = np.ascontiguousarray(full_batch[:, :, ::-1])
                mirrored_features = np.asarray(body.predict_on_batch(mirrored_batch))
                self._mirrored_x[positions] = mirrored_features[: len(x)]
            self._sample_weight[positions] = sample_weight

    def __len__(self):
        return len(self.ordered_batches)

    def __getitem__(self, index):
        positions, is_real = self.ordered_batches.rows(index)
        sample_weight = self._sample_weight[positions] * is_real
        return np.array(self._x[positions]), self._y[positions], sample_weight

    def dataset(self):
        """The batches as Keras's `fit` and `evaluate` should take them."""
        return as_dataset(self, self._x.shape[1:], "float32", self._y.shape[1])

    def rows(self):
        """All features in the order of the samples, then those of the mirrored images.

        Returns:
            (features, class_ids, sample_weight): float32 (N, D), int (N,) and float32 (N,).
        """
        parts = self._views()
        class_ids = np.tile(self._class_ids, len(parts))
        return np.concatenate(parts), class_ids, np.tile(self._sample_weight, len(parts))


def _array_on_disk(shape, folder):
    """float32 array of a shape in a file that is gone with the process, whatever happens."""
    feature_file = tempfile.TemporaryFile(dir=folder)
    if hasattr(os, "posix_fallocate"):  # or a full disk ends the process
        os.posix_fallocate(feature_file.fileno(), 0, BYTES_PER_FEATURE * int(np.prod(shape)))
    return np.memmap(feature_file, np.float32, "w+", shape=shape)
