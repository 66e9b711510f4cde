"""Commands one after the other in one process, on an EfficientNet with few blocks.

    python -m tests.few_blocks '[["--mode", "train", ...], ...]'

What tests of several devices and processes start: those are chosen once per process. Exits
with the highest status. With TRACE=PATH, a training appends the name of each image it reads to
PATH.read, and leaves all variables of its model in PATH.npz. Keras is not imported before the
command does it, so that the command chooses backend and devices.
"""

import json
import os
import sys

import numpy as np

from compute import backend

import_keras = backend.import_keras


def import_keras_small(*words):
    keras = import_keras(*words)
    import efficientnet.model as network

    network.STAGES = (
        network.Stage(3, 1, 8, 1, 1), network.Stage(3, 2, 16, 6, 2),
        network.Stage(5, 1, 24, 6, 2),
    )
    if "TRACE" in os.environ:
        trace(os.environ.pop("TRACE"))
    return keras


def trace(path):
    from data import image_reader
    from training import run_recorder

    end = run_recorder.RunRecorder.on_epoch_end

    def traced(load):
        def traced_load(image, *rest, **more):
            with open(path + ".read", "a") as file:
                file.write(os.path.basename(image) + "\n")
            return load(image, *rest, **more)

        return traced_load

    def traced_end(self, epoch, logs=None):
        end(self, epoch, logs)
        np.savez(path + ".npz", *[np.asarray(value) for value in self.full_model.variables])

    image_reader.load = traced(image_reader.load)
    image_reader.load_augmented = traced(image_reader.load_augmented)
    run_recorder.RunRecorder.on_epoch_end = traced_end


backend.import_keras = import_keras_small  # before the modules that take it by name

import run  # noqa: E402

sys.exit(max(run.main(words) for words in json.loads(sys.argv[1])))
