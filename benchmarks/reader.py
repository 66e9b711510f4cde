"""Time and memory of reading labels and making batches, from 1,000 to 100,000 samples.

    python -m benchmarks.reader [--json]

Writes folders in the sample format (empty images: the reader does not decode), reads
each and makes its `ImageBatches`, every size in a process of its own. `bytes_per_sample`
is how much higher the peak of the process's resident memory rises for the large folder
than for the small one, over the samples between them. Linux only.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

SMALL, LARGE = 1_000, 100_000


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--read", help=argparse.SUPPRESS)  # the process that is measured
    options = parser.parse_args(argv)
    if options.read:
        print(json.dumps(read(options.read)))
        return
    measured = {}
    with tempfile.TemporaryDirectory() as scratch:
        for count in (SMALL, LARGE):
            folder = os.path.join(scratch, str(count))
            write(folder, count)
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.reader", "--read", folder],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            measured[count] = json.loads(done.stdout.splitlines()[-1])
    growth = measured[LARGE]["peak_bytes"] - measured[SMALL]["peak_bytes"]
    result = {
        "bytes_per_sample": growth / (LARGE - SMALL),
        "samples_per_second": LARGE / measured[LARGE]["read_seconds"],
    }
    if options.json:
        print(json.dumps(result))
        return
    print(f"memory  {result['bytes_per_sample']:10.0f} bytes per sample")
    print(f"labels  {result['samples_per_second']:10,.0f} a second")


def write(folder, count):
    from data.label_names import write_label_names
    from data.samples import write_sample

    os.makedirs(folder)
    write_label_names(folder, ["even", "odd"])
    for number in range(count):
        name = f"photo_of_something_{number:06}.jpg"
        open(os.path.join(folder, name), "w").close()
        write_sample(folder, name, number % 2)


def read(folder):
    from compute.backend import import_keras

    import_keras()
    from data.geometry import Preprocessing
    from data.label_names import read_label_names
    from data.samples import read_samples
    from data_gen_label import ImageBatches, Variation

    labels = read_label_names(os.path.join(folder, "label.json"))
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # forget the peak of the imports, which would hide this one
    before = resident("VmRSS")
    began = time.perf_counter()
    samples = read_samples(folder, labels)
    seconds = time.perf_counter() - began
    batches = ImageBatches(samples, len(labels), 16, Preprocessing(224), Variation("uniform"))
    batches.epoch = 1  # a second order, as training has
    batches.close()
    return {"read_seconds": seconds, "peak_bytes": resident("VmHWM") - before}


def resident(field):
    """Bytes of resident memory: now (VmRSS) or at the peak (VmHWM)."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field)) * 1024


if __name__ == "__main__":
    sys.exit(main())
