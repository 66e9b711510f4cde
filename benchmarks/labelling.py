"""The page of --mode label: what a kill loses, how fast 100,000 photos are, keys per wrong label.

    python -m benchmarks.labelling [--parts keys,large,wrong] [--json]

Drives headless Chromium, which has to be installed. `keys` labels 1,000 digits by keys while the
process is killed at 20 moments, compares every file, and undoes all of it. `large` opens a folder
of 100,000 photos. `wrong` plants 20 wrong labels in the digits, trains with the demo's recipe
(about 3 minutes), makes the report, and corrects them on its page by keys.
"""

import argparse
import hashlib
import json
import os
import random
import sys
import tempfile
import time

import cv2
import numpy as np
import psutil

import run
from benchmarks.label_errors import RECIPE
from data.label_names import read_label_names
from data.samples import read_samples, write_sample

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests"))
from label_page import Page  # noqa: E402  the driver that the tests use

DIGITS, KILLS, LARGE, WRONG = 1000, 20, 100_000, 20
TIME_OF_A_SCREEN = (  # milliseconds from a jump to the next painted frame
    "(async () => { const times = []; for (let i = 0; i < 60; i++) {"
    " const began = performance.now();"
    " grid.scrollTop = i % 2 ? grid.scrollTop + grid.clientHeight"
    " : Math.random() * grid.scrollHeight;"
    " await new Promise(done => requestAnimationFrame(() => setTimeout(done)));"
    " times.push(performance.now() - began); } return times.sort((a, b) => a - b) })()"
)
IN_SIGHT = (
    "[...document.querySelectorAll('.cell img')].length > 0 && "
    "[...document.querySelectorAll('.cell img')].every(one => one.complete && one.naturalWidth)"
)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default="keys,large,wrong")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    asked = parser.parse_args(argv)
    measured = {}
    for part in asked.parts.split(","):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
            measured.update({"keys": keys, "large": large, "wrong": wrong}[part](place))
    if asked.json:
        print(json.dumps(measured))
        return
    for name, value in measured.items():
        print(f"{name:<28} {value:,.4g}")


def write_digits(folder, count):
    """Writes unlabelled digits; returns dict of file content's hash -> class."""
    from sklearn.datasets import load_digits

    digits, classes = load_digits(), {}
    os.makedirs(folder)
    for i in range(count):
        image = cv2.resize(np.uint8(digits.images[i] * 15), (32, 32))
        image[0, 0], image[0, 1] = i % 256, i // 256  # no two files are equal
        content = cv2.imencode(".png", image)[1].tobytes()
        classes[hashlib.sha256(content).hexdigest()] = str(digits.target[i])
        with open(os.path.join(folder, f"{i:04}.png"), "wb") as file:
            file.write(content)
    return classes


def read_files(folder):
    """dict of path -> hash of the content, of all images in a folder."""
    return {
        os.path.relpath(os.path.join(parent, name), folder): hashlib.sha256(
            open(os.path.join(parent, name), "rb").read()
        ).hexdigest()
        for parent, _, names in os.walk(folder)
        for name in names
        if name.endswith(".png")
    }


def keys(place):
    """Labels by keys, killed again and again."""
    folder = os.path.join(place, "digits")
    classes = write_digits(folder, DIGITS)
    before = read_files(folder)
    for digit in range(10):  # in their own folders, so that the keys are known: 1 is "0"
        os.makedirs(os.path.join(folder, str(digit)))
        cv2.imwrite(os.path.join(folder, str(digit), "a.jpg"), np.full((32, 32, 3), 25 * digit))
    page = Page(folder, os.path.join(place, "profile"))
    generator = random.Random(0)
    kills = sorted(generator.sample(range(10, DIGITS - 10), KILLS), reverse=True)
    pressed, began, page_seconds = 0, time.perf_counter(), 0.0
    path_at = "photos.get(ids[cursor])?.path"
    while page.browser.evaluate("ids.length"):
        path = page.browser.wait(path_at)
        digit = classes[before[os.path.basename(path)]]
        page.press("123456789a"[int(digit)])
        pressed += 1
        if kills and pressed >= kills[-1]:
            kills.pop()
            time.sleep(generator.random() * 0.01)
            page.kill()
            page.browser.evaluate("outbox.length = 0")  # as somebody who closes the page
            started = time.perf_counter()
            page.start()
            page_seconds += time.perf_counter() - started
    page.settled()
    seconds = time.perf_counter() - began - page_seconds
    after = read_files(folder)
    right = sum(os.path.dirname(path) == classes[digest] for path, digest in after.items())
    while page.browser.evaluate("state.undoable"):
        page.browser.evaluate(
            "(async () => { for (let i = 0; i < 50; i++) takeBack('api/undo');"
            " while (outbox.length || sending) await sleep(5); await refresh(); })()"
        )
    page.close()
    return {
        "keys_pressed": pressed,
        "killed": KILLS,
        "photos_lost": len(set(before.values()) - set(after.values())),
        "photos_twice": len(after) - len(set(after.values())),
        "labels_right": right,
        "undone_to_the_beginning": float(read_files(folder) == before),
        "milliseconds_per_key": 1000 * seconds / pressed,
    }


def large(place):
    """Opens a folder of many photos."""
    folder = os.path.join(place, "photos")
    paths = []
    for i in range(200):  # different pictures of a camera's size for thumbnails
        paths.append(os.path.join(place, f"{i}.jpg"))
        noise = np.random.default_rng(i).integers(0, 256, (12, 16, 3), np.uint8)
        cv2.imwrite(paths[-1], cv2.resize(noise, (1600, 1200), interpolation=cv2.INTER_CUBIC))
    for class_id in range(10):
        os.makedirs(os.path.join(folder, f"class {class_id}"))
    os.makedirs(os.path.join(folder, "_unsorted"))
    for i in range(LARGE):
        part = f"class {i % 10}" if i < LARGE // 5 else "_unsorted"
        os.link(paths[i % len(paths)], os.path.join(folder, part, f"{i:06}.jpg"))
    began = time.perf_counter()
    page = Page(folder, os.path.join(place, "profile"))
    page.browser.wait(IN_SIGHT)
    from_start = time.perf_counter() - began
    page.browser.open("about:blank")
    began = time.perf_counter()
    page.browser.open(page.url)
    page.browser.wait(IN_SIGHT)
    first_screen = time.perf_counter() - began
    times = page.browser.evaluate(TIME_OF_A_SCREEN)
    labelling = page.browser.evaluate(
        "(async () => { const times = []; for (let i = 0; i < 20; i++) {"
        " const began = performance.now(); label('class 1');"
        " await new Promise(done => requestAnimationFrame(() => setTimeout(done)));"
        " times.push(performance.now() - began); } return times.sort((a, b) => a - b) })()"
    )
    page.settled()
    memory = psutil.Process(page.process.pid).memory_info().rss
    page.close()
    return {
        "photos": LARGE,
        "seconds_from_command": from_start,
        "first_screen_seconds": first_screen,
        "screen_milliseconds_median": times[len(times) // 2],
        "screen_milliseconds_most": times[-1],
        "label_milliseconds_median": labelling[10],
        "label_milliseconds_most": labelling[-1],
        "memory_megabytes": memory / 1e6,
    }


def wrong(place):
    """Corrects wrong labels on the page of the report."""
    data, runs = os.path.join(place, "digits"), os.path.join(place, "runs")
    run.main(["--mode", "demo_data", "--target", data, "--json"])
    folder = os.path.join(data, "train_datasets")
    samples = read_samples(folder, read_label_names(os.path.join(folder, "label.json")))
    generator = np.random.default_rng(0)
    true_ids = dict(zip(samples.file_names, map(int, samples.class_ids)))
    planted = [samples.file_names[i] for i in generator.choice(len(true_ids), WRONG, False)]
    for name in planted:
        write_sample(folder, name, (true_ids[name] + int(generator.integers(1, 10))) % 10)
    place_words = ("--run", "wrong", "--save_dir", runs)
    training = ("--train_data", folder, "--log_dir", place, "--json", *RECIPE)
    for words in (("train", *training), ("report", "--data", folder, "--json")):
        if run.main(["--mode", *words, *place_words]):
            raise SystemExit(1)
    page = Page(folder, os.path.join(place, "profile"), *place_words, "--queue", "doubtful")
    pressed, suspects = 0, page.browser.evaluate("ids.length")
    corrected = set()
    while page.browser.evaluate("ids.length") and len(corrected) < WRONG:
        photo = page.browser.wait("photos.get(ids[cursor])")
        name = photo["path"]
        true_name = str(true_ids[name])
        if photo.get("hint", {}).get("suggested") == true_name:
            page.press("Enter")
        else:
            page.press("123456789a"[int(true_name)])
        pressed += 1
        corrected |= {name} & {*planted}
    page.settled()
    page.close()
    now = read_samples(folder, read_label_names(os.path.join(folder, "label.json")))
    still_wrong = sum(true_ids[n] != int(c) for n, c in zip(now.file_names, now.class_ids))
    return {
        "wrong_labels": WRONG,
        "suspects": suspects,
        "keystrokes": pressed,
        "wrong_labels_left": still_wrong,
    }


if __name__ == "__main__":
    main()
