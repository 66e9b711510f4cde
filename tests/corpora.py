"""Every file of a folder through `data.decoding`, beside Pillow and OpenCV: for public test images.

    python -m tests.corpora DIR [--seconds 5] [--json FILE]

Each file is decoded in a process of its own with limits. Reported are processes that died, took
longer, raised something else than ImageError or wrote to standard error; and pictures of which
the mean difference to Pillow's or OpenCV's is more than LEVELS, with the reason where the file
says one. Counted are files called broken that Pillow reads, by Pillow's name of their format: none
of these may be a format that the project reads. Linux only; run by hand (docs/reliability.md has
what came out).
"""

import argparse
import collections
import contextlib
import json
import os
import pickle
import resource
import select
import signal
import time
import warnings

import cv2
import numpy as np
from PIL import Image, ImageOps

from common.errors import ImageError
from data import heif
from data.decoding import decode
from data.geometry import Preprocessing
from data.tiff_tags import is_tiff, read_tags

LEVELS = 8  # of 255, in the mean over pixels and channels
MEMORY = 6 << 30  # bytes that a process may map
WHOLE = Preprocessing(1 << 20, "stretch")  # nothing is reduced but what has over a megapixel
BROKEN = ("undecodable", "truncated", "empty")


def decode_ours(data):
    """("ok", picture), or the code and the reason of the refusal."""
    try:
        return "ok", decode(data, WHOLE)
    except ImageError as error:
        return error.code, error.reason


def decode_with_pillow(path):
    """What Pillow alone makes of a file, on white; None where it refuses."""
    with contextlib.suppress(Exception), Image.open(path) as image:
        image.load()
        image = ImageOps.exif_transpose(image)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, (255, 255, 255, 255))
            image = Image.alpha_composite(white, image)
        return np.asarray(image.convert("RGB"))
    return None


def decode_with_opencv(data):
    with contextlib.suppress(cv2.error):
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        return None if image is None else image[..., ::-1]
    return None


def traits(path, data):
    """What about a file makes decoders differ, as far as it says so."""
    found = []
    tags = read_tags(data)
    if is_tiff(data):
        if tags.get(284, (1,))[0] == 2:
            found.append("planes")
        if max(tags.get(258) or (1,)) > 8:
            found.append("16 bits")
        if tags.get(262, (1,))[0] == 0:
            found.append("white is zero")
    with contextlib.suppress(Exception), Image.open(path) as image:
        if image.has_transparency_data or image.mode in ("La", "RGBa"):
            found.append("opacity")
        if image.mode in ("CMYK", "LAB", "YCbCr"):
            found.append(image.mode)
        if image.mode.startswith("I"):
            found.append("16 bits")
        if getattr(image, "n_frames", 1) > 1:
            found.append("several pictures")
        if image.getexif().get(274, 1) != 1:
            found.append("orientation")
    if heif.container_format(data):
        found.append("HEIF or AVIF")
    return found


def compare(path):
    """The outcome of one file: a dict that JSON can hold."""
    with open(path, "rb") as image_file:
        data = image_file.read()
    start = time.process_time()
    code, picture = decode_ours(data)
    outcome = {"code": code, "seconds": round(time.process_time() - start, 2)}
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what the others say is not ours
    if code != "ok":
        outcome["reason"] = picture
        if code in BROKEN and decode_with_pillow(path) is not None:
            with Image.open(path) as image:
                outcome["read_by_pillow"] = image.format
        return outcome
    outcome["traits"] = traits(path, data)
    for name, other in (("pillow", decode_with_pillow(path)), ("opencv", decode_with_opencv(data))):
        if other is None:
            outcome[name] = "refused"
        elif other.shape != picture.shape:
            outcome[name] = f"has the size {other.shape[:2]}, ours {picture.shape[:2]}"
        else:
            difference = np.abs(other.astype(np.int16) - picture).mean()
            outcome[name] = round(float(difference), 2)
    return outcome


def in_own_process(path, seconds):
    """`compare` in a fork with limits: (outcome, lines on standard error)."""
    reading_end, writing_end = os.pipe()
    error_read, error_write = os.pipe()
    process_id = os.fork()
    if not process_id:
        os.dup2(error_write, 2)
        for descriptor in (error_read, error_write, reading_end):
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        try:
            outcome = compare(path)
        except MemoryError:
            outcome = {"code": "memory"}
        except BaseException as error:
            outcome = {"code": f"raised {type(error).__name__}: {error}"}
        os.write(writing_end, pickle.dumps(outcome))
        os._exit(0)
    os.close(writing_end)
    os.close(error_write)
    parts, error_text, deadline = [], b"", time.monotonic() + seconds + 15
    open_ends = {reading_end, error_read}
    while open_ends and (left := deadline - time.monotonic()) > 0:
        for ready in select.select(open_ends, [], [], left)[0]:
            part = os.read(ready, 1 << 16)
            if not part:
                open_ends.discard(ready)
            elif ready == reading_end:
                parts.append(part)
            else:
                error_text += part
    if open_ends:
        os.kill(process_id, signal.SIGKILL)
    _, wait_status = os.waitpid(process_id, 0)
    os.close(reading_end)
    os.close(error_read)
    if not parts:
        died = "hangs" if open_ends else f"died with {os.waitstatus_to_exitcode(wait_status)}"
        return {"code": died}, error_text
    return pickle.loads(b"".join(parts)), error_text


def differs(outcome, name):
    """Whether a picture differs from Pillow's or OpenCV's by more than `LEVELS`, or in size."""
    difference = outcome.get(name, 0.0)
    return difference != "refused" if isinstance(difference, str) else difference > LEVELS


# Where one of the two agrees with ours and the file has this trait, the other one is known to err
KNOWN = {
    "opencv": {
        "opacity": "OpenCV shows the colours under transparent pixels",
        "several pictures": "OpenCV shows the colours under transparent pixels",
        "orientation": "OpenCV turns nothing but JPEGs",
        "CMYK": "OpenCV converts printing colours in another way",
        "LAB": "OpenCV takes CIELAB for RGB",
        "HEIF or AVIF": "OpenCV does not turn AVIF",
        "white is zero": "OpenCV takes 0 for black",
    },
    "pillow": {
        "16 bits": "Pillow cuts 16 bits off above 255",
        "planes": "Pillow confuses planes",
        "orientation": "Pillow turns by XMP, too",
        "white is zero": "Pillow takes 0 of 16 bits for black",
    },
}


def explain(outcome):
    """Why a picture differs, or None where nothing says so."""
    for name, other in (("opencv", "pillow"), ("pillow", "opencv")):
        if differs(outcome, name) and not differs(outcome, other) and outcome[other] != "refused":
            for trait in outcome["traits"]:
                if trait in KNOWN[name]:
                    return KNOWN[name][trait]
    return None


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folder")
    arguments.add_argument("--seconds", type=float, default=5)
    arguments.add_argument("--json")
    options = arguments.parse_args()
    warnings.simplefilter("ignore")
    outcomes, codes = {}, collections.Counter()
    paths = sorted(
        os.path.join(parent, name)
        for parent, _, names in os.walk(options.folder) for name in names
    )
    for path in paths:
        outcome, error_text = in_own_process(path, options.seconds)
        if error_text:
            outcome["stderr"] = error_text[:300].decode("latin-1")
        if outcome.get("seconds", 0) > options.seconds:
            outcome["code"] = "slow"
        outcomes[os.path.relpath(path, options.folder)] = outcome
        codes[outcome["code"].split(":")[0]] += 1
    print(f"{len(paths):,} files: " + ", ".join(f"{n:,} {code}" for code, n in codes.most_common()))
    reasons = collections.Counter()
    for path, outcome in outcomes.items():
        is_different = differs(outcome, "pillow") or differs(outcome, "opencv")
        if is_different and (reason := explain(outcome)):
            reasons[reason] += 1
            is_different = False
        if is_different or "stderr" in outcome or outcome["code"] not in (
            "ok", "unsupported", "undecodable", "truncated", "empty", "too_large"
        ):
            print(path, json.dumps(outcome))
    for reason, count in reasons.most_common():
        print(f"{count:,} differ: {reason}")
    formats = collections.Counter(
        outcome["read_by_pillow"] for outcome in outcomes.values() if "read_by_pillow" in outcome
    )
    print("read by Pillow:", *(f"{count:,} {name}" for name, count in formats.most_common()))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as json_file:
            json.dump(outcomes, json_file, indent=1)


if __name__ == "__main__":
    main()
