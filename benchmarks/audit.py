"""`--mode audit`: does it find one fault of each kind, and nothing else; how fast is it?

    python -m benchmarks.audit --data DIR [--json]

DIR has one folder of photos per class. They are copied to a temporary folder, one fault of each
kind is planted there, and what the audit names is held against that: `found` of `planted`, and
`others`, what it names besides. `rate` and `rate_without_near` are photos per second with two
threads, of the photos without faults, with and without the search for near duplicates; `bare`
is that of decoding the same photos in full and dropping them. Medians of five rounds in turns.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from data import decoding
from data.label_names import read_label_names, write_label_names
from data.samples import read_samples, write_sample
from other import data_del
from other.data_quality import image_checks
from other.data_reconstruction_dir2txt import convert

ROUNDS, WORKERS, HELD_OUT = 5, 2, 12  # every 12th photo is one of validation


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with a folder of photos per class")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    asked = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as place:
        source, validation = os.path.join(place, "train"), os.path.join(place, "val")
        convert(asked.data, source)
        result = rates(source)
        hold_out(source, validation)
        planted = plant(source, validation, place)
        folders = [data_del.read_folder(source), data_del.read_folder(validation, "--val_data")]
        findings, _, _ = data_del.audit(folders, None, True, WORKERS)
        named = {(row["kind"], os.path.basename(row["path"])) for row in findings.rows}
    result["planted"] = len({kind for kind, _ in planted})
    result["found"] = len(
        {kind for kind, _ in planted & named} - {kind for kind, _ in planted - named}
    )
    result["missed"] = sorted(planted - named)
    result["others"] = sorted(named - planted)
    if asked.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:<18} {value if isinstance(value, list) else format(value, ',.4g')}")


def rates(source):
    folder = data_del.read_folder(source)
    paths = [os.path.join(source, name) for name in folder.images]

    def decode(path):
        with open(path, "rb") as file:
            decoding.decode(file.read(), image_checks.WHOLE, path)

    def bare():
        with ThreadPoolExecutor(WORKERS) as pool:
            for _ in pool.map(decode, paths):
                pass

    ways = {
        "bare": bare,
        "rate_without_near": lambda: data_del.audit([folder], None, False, WORKERS),
        "rate": lambda: data_del.audit([folder], None, True, WORKERS),
    }
    times = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - began)
    return {name: len(paths) / statistics.median(each) for name, each in times.items()}


def hold_out(source, validation):
    """Moves some photos to a validation folder."""
    os.mkdir(validation)
    names = read_label_names(os.path.join(source, "label.json"))
    samples = read_samples(source, names)
    for name in samples.file_names[::HELD_OUT]:
        for each in (name, os.path.splitext(name)[0] + ".txt"):
            shutil.move(os.path.join(source, each), os.path.join(validation, each))


def plant(source, validation, place):
    """Plants one fault of each kind; returns {(kind, file name)}, of both where there are two."""
    names = read_label_names(os.path.join(source, "label.json"))
    samples = read_samples(source, names)
    # Photos from all over the folder, each used once
    photos = iter(np.random.default_rng(0).permutation(len(samples.file_names)).tolist())
    planted = set()

    def path(name):
        return os.path.join(source, name)

    def photo(kind=None):
        """A photo's name, with the class id, as a place for a fault."""
        position = next(photos)
        name = samples.file_names[position]
        if kind:
            planted.add((kind, name))
        return name, int(samples.class_ids[position])

    def changed(kind, change):
        name, _ = photo(kind)
        with open(path(name), "rb") as file:
            data = file.read()
        with open(path(name), "wb") as file:
            file.write(change(data))

    def redrawn(kind, draw, ending=".jpg", **settings):
        """The photo again after `draw`, in the format of the ending."""
        name, label = photo()
        with Image.open(path(name)) as image:
            drawn = draw(image.convert("RGB"))
        remove(name)
        name = f"planted_{kind}{ending}"
        drawn.save(path(name), **settings)
        write_sample(source, name, label)
        planted.add((kind, name))

    def text(name):
        return path(os.path.splitext(name)[0] + ".txt")

    def remove(name):
        os.unlink(path(name))
        os.unlink(text(name))

    changed("empty", lambda data: b"")
    changed("undecodable", lambda data: b"<!DOCTYPE html><html>404</html>")
    changed("truncated", lambda data: data[: len(data) // 2])
    changed("corrupt_data", lambda data: data[:-2] + bytes(50) + data[-2:])
    redrawn("tiny", lambda image: image.resize((40, 30)))
    redrawn("extreme_shape", lambda image: image.crop((0, 0, image.width, image.width // 6)))
    redrawn("blank", lambda image: image.resize((1, 1)).resize(image.size))
    redrawn("huge", lambda image: image.resize((8200, 6200)))
    redrawn("odd_mode", lambda image: image.convert("CMYK"))
    redrawn("unsupported", lambda image: image.convert("F"), ".tif")
    redrawn(
        "animated",
        lambda image: image,
        ".gif",
        save_all=True,
        append_images=[Image.new("RGB", (100, 100))],
    )

    name, _ = photo()
    strange = os.fsdecode(b"caf\xe9.jpg")
    os.rename(path(name), path(strange))
    os.unlink(text(name))
    planted.add(("name_not_utf8", strange))
    name, _ = photo("wrong_extension")
    with Image.open(path(name)) as image:
        image.save(path(name), "PNG")
    name, _ = photo("missing_text")
    os.unlink(text(name))
    name, _ = photo("bad_label")
    write_sample(source, name, 99)
    name, _ = photo("outside_link")
    shutil.move(path(name), os.path.join(place, name))
    os.symlink(os.path.join(place, name), path(name))
    name, _ = photo("unreadable")
    os.unlink(path(name))
    os.symlink("nowhere", path(name))
    (one, _), (two, _) = photo("two_images_one_stem"), photo()
    stem = os.path.splitext(one)[0]
    with Image.open(path(two)) as image:
        image.save(path(stem + ".png"))
    remove(two)
    planted.add(("two_images_one_stem", stem + ".png"))
    for name in ("orphan_text", "not_an_image"):
        ending = ".txt" if name == "orphan_text" else ".xml"
        with open(path(name + ending), "w") as file:
            file.write("nothing")
        planted.add((name, name + ending))

    def copied(kind, folder, shift=0, small=False):
        """A second file of a photo, in `folder`, under a class `shift` further."""
        name, label = photo(kind)
        copy = f"planted_{kind}.jpg"
        shutil.copyfile(path(name), os.path.join(folder, copy))
        if small:
            with Image.open(path(name)) as image:
                image.resize((image.width // 2, image.height // 2)).save(
                    os.path.join(folder, copy), quality=60
                )
        write_sample(folder, copy, (label + shift) % len(names))
        planted.add((kind, copy))

    copied("exact_duplicate", source)
    copied("near_duplicate", source, small=True)
    copied("conflicting_labels", source, shift=1)
    copied("leak", validation)

    # Two more classes, one with a single photo to validate on; validation has yet another.
    name, _ = photo()
    os.rename(path(name), os.path.join(validation, "only.jpg"))
    os.unlink(text(name))
    write_sample(validation, "only.jpg", len(names) + 1)
    write_label_names(source, [*names, "empty", "only"])
    write_label_names(validation, [*names, "empty", "only", "another"])
    planted.add(("empty_class", "label.json"))
    planted.add(("only_in_validation", os.path.basename(validation)))
    planted.add(("bad_label_json", "label.json"))
    return planted


if __name__ == "__main__":
    sys.exit(main())
