"""What the server costs: requests per second against plain Flask, LitServe, BentoML and no HTTP.

    python -m benchmarks.serving --data DIR [--peers PYTHON] [--minutes N]

Needs wrk. A run of random weights (EfficientNetB0) is exported and served in turn by each, with two
cores for server and load generator together; photos of DIR are sent as multipart forms over 32
connections. PYTHON is an interpreter with litserve, bentoml and what this project needs to
predict; the peers decode and compute with this project's own functions, so that only the
serving differs. Ratios are medians of those of each of five rounds. A rented machine changes its
speed: what was measured while a batch took longer, before or after, is measured again.

ratio_to_plain_flask  requests per second of ours over Flask's with the SavedModel once a request;
                      wrk's own processor time is taken off (goal 4.5)
ratio_to_best_peer    over the better of LitServe and BentoML (goal 1.3)
ratio_to_runtime      over decoding on as many threads, and the runtime at its best batch (goal 0.8)
overhead_ms           median of one connection less decoding and the model (goal: below 3)
slow                  measurements during which the machine was slow each time
ready_seconds         from start to the first answer of /readyz (goal 1.5)
overload              answers to four times as many requests as it can serve
memory_growth         share by which memory and open files grew after the first sixth of --minutes
                      under load (goal 0.05)
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from benchmarks.inference import ROOT, export, milliseconds
from benchmarks.overload import overload
from benchmarks.server_process import free_port, running
from benchmarks.serving_peers import BENTOML, FLASK, LITSERVE
from data.decoding import load
from data.image_files import find_images
from prediction.classifier import Classifier

CONNECTIONS, SECONDS, ROUNDS, PHOTOS, BATCH = 32, 10, 5, 64, 16
WARMING = 20  # rounds of 3 s in which a server may begin to answer
SLOWER, TRIES = 1.15, 4  # times the shortest batch; how often what took longer is repeated
CORES = len(os.sched_getaffinity(0))

LUA = """
local bodies = {{}}
for number = 1, {count} do
  local file = io.open("{folder}/" .. number .. ".body", "rb")
  bodies[number] = file:read("*all")
  file:close()
end
local number = 0
wrk.method = "POST"
wrk.headers["Content-Type"] = "multipart/form-data; boundary=photo"
request = function()
  number = number % {count} + 1
  return wrk.format(nil, nil, nil, bodies[number])
end
done = function(summary, latency)
  io.write(string.format("result %d %d %d %.3f %.3f\\n", summary.requests, summary.errors.status,
    summary.duration, latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="folder of photos, or of folders of them")
    parser.add_argument("--peers", help="Python with litserve and bentoml")
    parser.add_argument("--minutes", type=float, default=0, help="of load for memory and files")
    parser.add_argument("--model", help="an exported folder, in place of one made here")
    arguments = parser.parse_args()
    photos = find_images([os.path.join(arguments.data, "**", "*.jpg")])
    with tempfile.TemporaryDirectory() as place:
        folder = arguments.model or export("EfficientNetB0", photos, place)
        folder = os.path.abspath(folder)
        photos = photos[:: max(1, len(photos) // PHOTOS)][:PHOTOS]
        script = write_bodies(photos, place)
        found = measure(folder, photos, script, place, arguments)
    for name, value in found.items():
        print(f"{name:<24}{value:.4g}" if isinstance(value, float) else f"{name:<24}{value}")


def measure(folder, photos, script, place, arguments):
    classifier = Classifier.load(folder, allow_low_precision=True)
    runtime = classifier.runtime
    found = {"runtime": " ".join(runtime)}
    one = load(photos[0], classifier.preprocessing)[None]
    data = [open(photo, "rb").read() for photo in photos]
    settings = classifier.preprocessing
    alone = np.median([milliseconds(lambda x: load(x, settings), each, 10) for each in data[:16]])
    alone += milliseconds(classifier.probabilities, one)
    ours = [sys.executable, "deployment/server.py", "--model", folder, "--json"]
    texts = {"flask": (sys.executable, FLASK)}
    if arguments.peers:
        texts.update(litserve=(arguments.peers, LITSERVE), bentoml=(arguments.peers, BENTOML))
    rates = {name: [] for name in ["bare", "ours", *texts]}
    batch, times, found["slow"] = np.repeat(one, BATCH, axis=0), [], 0

    def at_full_speed(function, *arguments):
        for _ in range(TRIES):
            before = milliseconds(classifier.probabilities, batch, 10)
            result = function(*arguments)
            times.extend([before, milliseconds(classifier.probabilities, batch, 10)])
            if max(times[-2:]) <= SLOWER * min(times):
                break
        else:
            found["slow"] += 1
        return result

    def served(name):
        port = free_port()
        if name == "ours":
            words = [*ours, "--port", str(port)]
        else:
            python, text = texts[name]
            path = os.path.join(place, f"{name}_peer.py")
            with open(path, "w") as file:
                file.write(text.format(root=ROOT, folder=folder, port=port, runtime=runtime))
            words = [python, path]
            if name == "bentoml":
                words = [
                    os.path.join(os.path.dirname(python), "bentoml"),
                    "serve",
                    f"{name}_peer:Service",
                    "--port",
                    str(port),
                    "--working-dir",
                    place,
                ]
        began = time.perf_counter()
        with open(os.path.join(place, f"{name}.log"), "w") as log, running(words, port, log):
            ready = time.perf_counter() - began
            for _ in range(WARMING):
                if wrk(port, script, 3, CONNECTIONS)["rate"]:
                    break
            result = wrk(port, script, SECONDS, CONNECTIONS)
            if name == "ours":
                result.update(ready=ready, single=wrk(port, script, 4, 1)["median"])
        print(f"{name}: {result}", file=sys.stderr, flush=True)
        return result

    served("ours")  # warms the file cache
    for _ in range(ROUNDS):
        rates["bare"].append(at_full_speed(without_http, classifier, photos))
        for name in ["ours", *texts]:
            result = at_full_speed(served, name)
            rates[name].append(result["rate"])
            if name == "ours":
                found["ready_seconds"] = min(result["ready"], found.get("ready_seconds", 99.0))
                found["median_ms"], found["99th_ms"] = result["median"], result["99th"]
                found["overhead_ms"] = float(result["single"] - alone)
    for name, each in rates.items():
        found[f"{name}_per_s"] = float(np.median(each))
    found["batch_ms"] = " ".join(f"{each:.0f}" for each in (min(times), max(times)))
    # Of each round, since a rented machine changes its speed from one to the next.
    peers = {"plain_flask": ["flask"], "runtime": ["bare"]}
    if arguments.peers:
        peers["best_peer"] = ["litserve", "bentoml"]
    for title, names in peers.items():
        ratios = [
            rate / max(others)
            for rate, *others in zip(rates["ours"], *(rates[name] for name in names))
        ]
        found[f"ratio_to_{title}"] = float(np.median(ratios))
        found[f"ratios_to_{title}"] = " ".join(f"{ratio:.2f}" for ratio in ratios)
    flood = overload(ours, form(photos[0]), 4 * found["ours_per_s"])
    found["overload"] = json.dumps(flood)
    if arguments.minutes:
        found.update(soak(ours, script, arguments.minutes))
    return found


def form(photo):
    with open(photo, "rb") as file:
        data = file.read()
    return (
        b'--photo\r\nContent-Disposition: form-data; name="image"; filename="photo.jpg"\r\n'
        b"Content-Type: image/jpeg\r\n\r\n" + data + b"\r\n--photo--\r\n"
    )


def write_bodies(photos, place):
    for number, photo in enumerate(photos, 1):
        with open(os.path.join(place, f"{number}.body"), "wb") as file:
            file.write(form(photo))
    path = os.path.join(place, "post.lua")
    with open(path, "w") as file:
        file.write(LUA.format(count=len(photos), folder=place))
    return path


def wrk(port, script, seconds, connections):
    """Requests a second, what wrk itself used of the processor taken off, and times in ms."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    output = subprocess.run(
        [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{seconds}s",
            "--timeout",
            "60s",
            "-s",
            script,
            f"http://127.0.0.1:{port}/predict",
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    words = output.split("result ")[1].split()
    requests, failed, duration = (int(word) for word in words[:3])
    left = CORES * duration / 1e6 - used
    return {
        "rate": (requests - failed) * CORES / left,
        "failed": failed,
        "wrk_cpu": used,
        "median": float(words[3]),
        "99th": float(words[4]),
    }


def without_http(classifier, photos, count=480):
    """Photos a second: decoding on all cores, then the model in batches, one after the other."""
    paths = [photos[number % len(photos)] for number in range(count)]
    classifier.probabilities(
        np.stack([load(path, classifier.preprocessing) for path in paths[:BATCH]])
    )
    began = time.perf_counter()
    with ThreadPoolExecutor(CORES) as pool:
        images = list(pool.map(lambda path: load(path, classifier.preprocessing), paths))
    for first in range(0, count, BATCH):
        classifier.probabilities(np.stack(images[first : first + BATCH]))
    return count / (time.perf_counter() - began)


def soak(words, script, minutes):
    """Growth of memory and open files under load, after a sixth of the time."""
    port = free_port()
    with running([*words, "--port", str(port)], port) as process:
        seconds = int(minutes * 60)
        load_process = subprocess.Popen(
            [
                "wrk",
                "-t1",
                f"-c{CONNECTIONS}",
                f"-d{seconds}s",
                "--timeout",
                "60s",
                "-s",
                script,
                f"http://127.0.0.1:{port}/predict",
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        samples = []
        while load_process.poll() is None:
            with open(f"/proc/{process.pid}/statm") as file:
                memory = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
            samples.append((memory, len(os.listdir(f"/proc/{process.pid}/fd"))))
            time.sleep(2)
        print(load_process.stdout.read(), file=sys.stderr)
    samples = samples[:-3]  # when connections end
    settled = np.array(samples[len(samples) // 6 :])
    first, last = settled[: len(settled) // 5].mean(axis=0), settled[-len(settled) // 5 :].mean(0)
    return {
        "memory_mb": float(last[0]),
        "files": float(last[1]),
        "memory_growth": float(last[0] / first[0] - 1),
        "files_growth": float(last[1] / first[1] - 1),
    }


if __name__ == "__main__":
    main()
