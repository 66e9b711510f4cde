"""Commands one after the other in one process, on an EfficientNet with few blocks.

    KERAS_BACKEND=... python -m tests.few_blocks '[["--mode", "train", ...], ...]'

What tests of several devices and processes start: those are chosen once a process. Exits
with the highest status. With TRACE=PATH, a training appends the name of
each image it reads to PATH.read, and leaves all variables of its model in PATH.npz.
"""

import json
import os
import sys

import numpy as np

import callbacks
import data_gen_label
import efficientnet.model as network
import run

network.STAGES = (
    network.Stage(3, 1, 8, 1, 1), network.Stage(3, 2, 16, 6, 2), network.Stage(5, 1, 24, 6, 2),
)


def trace(path):
    load, end = data_gen_label.load, callbacks.RunWriter.on_epoch_end

    def traced_load(image, *rest, **more):
        with open(path + ".read", "a") as file:
            file.write(os.path.basename(image) + "\n")
        return load(image, *rest, **more)

    def traced_end(self, epoch, logs=None):
        end(self, epoch, logs)
        np.savez(path + ".npz", *[np.asarray(value) for value in self.whole.variables])

    data_gen_label.load, callbacks.RunWriter.on_epoch_end = traced_load, traced_end


if "TRACE" in os.environ:
    trace(os.environ["TRACE"])
sys.exit(max(run.main(words) for words in json.loads(sys.argv[1])))
