"""How fast one runtime computes an exported model, in this process, which has to be fresh."""

import json
import os
import sys
import time

import numpy as np
import psutil

from common.errors import InputError
from data.samples import Samples
from prediction import runtimes
from prediction.batch import predict_samples
from prediction.classifier import Classifier
from prediction.exported_model import parse_description, read_description

TURNS = 3  # batch sizes take turns, so that what else the machine does meets them all


def measure(folder, name, precision, batches, seconds, images, names, workers):
    """Measures one runtime in one precision in this process, which has to be fresh.

    Args:
        folder: str, the folder of an exported model.
        name: str, a key of `runtimes.RUNTIMES`.
        precision: str, one of the runtime's precisions.
        batches: list of int, batch sizes, 1 first.
        seconds: (float, float), how long to measure one image, and each larger batch.
        images: str, the folder of images to answer after that.
        names: list of str, their file names.
        workers: int, threads that decode those.

    Returns:
        figures: dict of load_seconds, until the first answer; milliseconds, the median for one
            image, and milliseconds_95, the 95th percentile; images_per_second_N at each batch
            size N; images_per_second, the best, and batch_size, where that is; peak_memory, in
            bytes, of the process before it answers `names`, None where the system does not tell.
        answers: float32 (N, C), a row of zeros for an image that cannot be decoded.
        undecodable: dict of image name -> why it cannot be decoded.

    Raises:
        InputError: it cannot be opened.
    """
    labels, preprocessing = parse_description(folder, read_description(folder))
    shape = (batches[-1], preprocessing.size, preprocessing.size, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    start = time.perf_counter()
    predict = runtimes.open_model(folder, name, precision)
    predict(noise[:1])
    figures = {"load_seconds": time.perf_counter() - start}
    for size in batches:
        predict(noise[:size])  # warms up
    times = {size: [] for size in batches}
    for _ in range(TURNS):
        for size in batches:
            times[size] += clock(predict, noise[:size], seconds[size > 1] / TURNS)
    milliseconds = np.array(times[1]) * 1000
    figures["milliseconds"] = float(np.median(milliseconds))
    figures["milliseconds_95"] = float(np.percentile(milliseconds, 95))
    rates = {size: float(size / np.median(times[size])) for size in batches}
    figures["batch_size"] = max(rates, key=rates.get)
    figures["images_per_second"] = max(rates.values())
    figures.update({f"images_per_second_{size}": rate for size, rate in rates.items()})
    figures["peak_memory"] = _peak_memory()
    classifier = Classifier(labels, preprocessing, predict)
    samples = Samples(images, names, None)
    answers, errors, _ = predict_samples(classifier, samples, batches[-1], workers)
    return figures, answers, {names[n]: error.reason for n, error in errors.items()}


def clock(predict, x, seconds):
    """Times calls.

    Args:
        predict: function of one argument.
        x: what it is called with.
        seconds: float, how long to go on; one call at least is made.

    Returns:
        list of float, the seconds of each call.
    """
    times, end = [], time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        predict(x)
        times.append(time.perf_counter() - start)
    return times


def _peak_memory():
    # resource.getrusage would count what the parent held when it started this process.
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    except (OSError, StopIteration):  # not Linux
        return getattr(psutil.Process().memory_info(), "peak_wset", None)  # Windows


def _answer():
    """What the fresh process does: a task on standard input, the answer into a folder."""
    scratch = sys.argv[1]
    try:
        figures, answers, undecodable = measure(**json.load(sys.stdin))
    except InputError as error:
        sys.exit(" ".join(str(error).split()))
    np.save(os.path.join(scratch, "answers.npy"), answers)
    with open(os.path.join(scratch, "figures.json"), "w", encoding="utf-8") as file:
        json.dump([figures, undecodable], file)


if __name__ == "__main__":
    _answer()
