"""Training the head of a frozen backbone, on its features computed once if wanted."""

import os
import tempfile

import keras
import numpy as np
from tqdm import tqdm

from data_gen_label import as_dataset
from modeling.builder import backbone_layers


class frozen:
    """A context in which a model's backbone does not change.

    Its weights are not trainable, so that its BatchNormalization computes with the
    moving statistics and leaves them alone; its dropout (stochastic depth) is off.
    The model has to be compiled inside, and again after it.
    """

    def __init__(self, model):
        self.layers = backbone_layers(model)

    def __enter__(self):
        self.rates = [getattr(layer, "rate", None) for layer in self.layers]
        for layer in self.layers:
            layer.trainable = False
            if isinstance(layer, keras.layers.Dropout):
                layer.rate = 0.0

    def __exit__(self, *error):
        for layer, rate in zip(self.layers, self.rates):
            layer.trainable = True
            if isinstance(layer, keras.layers.Dropout):
                layer.rate = rate


def split(model, devices):
    """Cuts a model behind what a frozen backbone fixes.

    Args:
        model: as `builder.build_model` gives it.
        devices: `devices.Devices` that the head is trained on; the body runs on one.

    Returns:
        (body, head): from the model's input to features (B, ...), and from those to
        its output; they share the model's layers. Pooling belongs to the body where
        nothing before it learns.
    """
    # keras.Model gives its layers in the graph's order.
    following = [layer for layer in model.layers if layer not in set(backbone_layers(model))]
    first = following[0]
    cut = first.output if first.name == "pool" and not first.weights else first.input
    body = keras.Model(model.input, cut)
    with devices.scope():
        return body, keras.Model(cut, model.output)


class FeatureBatches(keras.utils.PyDataset):
    """Batches of features, computed once, instead of images.

    A batch is (x, y, weights) as that of `ImageBatches`, x being features (B, ...),
    float32; the images come in the order of `order`.

    Args:
        body: the first model of `split`.
        images: `data_gen_label.ImageBatches`, neither shuffled nor augmented, for one device.
        order: `ImageBatches` of the same samples, whose positions count.
        folder: where the features are kept, in a file without a name.
    """

    def __init__(self, body, images, order, folder):
        super().__init__(workers=1)
        self.order = order
        count = len(images.samples.file_names)
        self._file = tempfile.TemporaryFile(dir=folder)  # gone with the process, whatever happens
        size = 4 * count * int(np.prod(body.output.shape[1:]))
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self._file.fileno(), 0, size)  # or a full disk ends the process
        self._x = np.memmap(self._file, np.float32, "w+", shape=(count, *body.output.shape[1:]))
        self._y = np.zeros((count, images.classes), np.float32)
        self._weights = np.zeros(count, np.float32)
        for index in tqdm(
            range(len(images)), "computing features", unit=" batches", leave=False, disable=None
        ):
            x, y, weights = images[index]
            rows, _ = images.rows(index)
            # Of one shape: for another TensorFlow would trace the network again.
            full = np.resize(x, (images.batch_size, *x.shape[1:]))
            self._x[rows] = np.asarray(body.predict_on_batch(full))[: len(x)]
            self._y[rows], self._weights[rows] = y, weights
        order.undecodable.update(images.undecodable)

    def __len__(self):
        return len(self.order)

    def __getitem__(self, index):
        rows, real = self.order.rows(index)
        return np.array(self._x[rows]), self._y[rows], self._weights[rows] * real

    def dataset(self):
        """As `ImageBatches.dataset`."""
        return as_dataset(self, self._x.shape[1:], "float32", self._y.shape[1])
