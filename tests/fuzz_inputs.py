"""Spoilt files of every kind that users hand in, to the functions that read them.

    python -m tests.fuzz_inputs [--count 10000] [--images 5000] [--seed 0] [--keep DIR]

A file gives a value, or an InputError (an image an ImageError) with a message of one line, each
reading within SECONDS of the processor and MEMORY. All else is a find: it is named with kind and
number, and its file, a function of (seed, kind, number), kept in DIR. Linux only.
"""

import argparse
import faulthandler
import functools
import io
import os
import random
import re
import resource
import signal
import struct
import tempfile
import time
import traceback
import zlib
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
from PIL import Image

from benchmarks.reader import resident
from common.errors import ImageError, InputError
from config import parser
from config.option_table import OPTIONS
from data.decoding import decode, load
from data.decoding_limits import MAX_PIXELS
from data.geometry import Preprocessing
from data.label_names import check_labels, read_label_names, write_label_names
from data.samples import read_samples, write_sample
from other import quarantine, relabel
from runs import run_folder
from tests import fuzz_requests
from tests.heic_files import HEIC
from training.normalization import read_normalization

SECONDS, MEMORY = 5, 500_000_000  # the most that a reading may take; bytes above its start
HANGS = 120  # seconds by the clock after which a process that does nothing is ended
GUARD = 4 << 30  # bytes that a process may map; beyond them comes MemoryError
LABELS = ("cardboard", "glass", "metal")

# What takes the place of a word; in the last two each of nine levels holds nine of the one before
VALUES = [value.encode() for value in (
    *"; ~; true; 1e999; nan; .nan; NaN; Infinity; -.inf; -1; -0; 1_000; 0o7; 1e-400; \u0661; "
    "1:59:59; 2001-13-45; 2001-12-14t21:59:43.10-99:99; {}; []; [[1, 2], 3]; {a: 1, a: 2}; "
    "&a [*a]; *nowhere; &a {<<: *a}; &a {*a : 1}; {[a]: 1}; {<<: 1}; |\n  a; !!bool x; !!int ''; "
    "!!int -; !!float ''; !!timestamp x; !!binary x; !!binary aGVsbG8=; !!set {a, b}; !!seq {}; "
    "!!omap [a: 1]; !!pairs [1]; !!str [1]; !!null x; !x y; !!python/name:os.system; "
    "!!python/object/apply:os.system ['true']; /dev/null; ..; data/\0/img_1.jpg; "
    '" "; "a\nb"; "a\\nb"; "\\ud800"; "\\0"; "\\U00110000"'.split("; "), "9" * 5000,
    "1" + "0" * 400, "0x" + "f" * 5000, "1" + ":59" * 3000, "../" * 2000, "a" * 300, "x" * 200_000,
    '"' + "y" * 200_000 + '"', "[" * 2000 + "]" * 2000, "[" * 100_000, '{"a":' * 2000, "- " * 2000,
    *(f"[&a0 {first}, " + ", ".join(level.format(n, ", ".join([f"*a{n - 1}"] * 9))
                                    for n in range(1, 10)) + "]"
      for first, level in (("[x, x]", "&a{} [{}]"), ("{x: 1}", "&a{} {{<<: [{}]}}"))),
)]
INSERTS = (*(bytes([each]) for each in b"'\",:%[]{}#\\*&!?\0\r\n\t\x1b\x85\xa0\xff"), b"<<: ",
           b"\xed\xa0\x80", b"\xe2\x80\xa8", b"\\ud800", b"\xef\xbb\xbf", b"---\n", b"%YAML 9\n")
ENCODINGS = ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7")
LINE_ENDS = (b"\r\n", b"\r", b"\n\r", b"\xc2\x85", b"\n\n", b"\xe2\x80\xa8", b"", b"\n ", b" \n")


def flip(data, start, stop, one):
    data = bytearray(data)
    for _ in range(one((1, 1, 4, 30)) if data else 0):
        data[one(range(len(data)))] = one(range(256))
    return bytes(data)


def word(data, start, stop, one):
    words = list(re.finditer(rb'"[^"\n]*"|[^\s,:"\[\]{}]+', data))
    start, stop = one(words).span() if words else (start, stop)
    return data[:start] + one(VALUES) + data[stop:]


# Each with the ends of a part and what draws one of several
CHANGES = (
    word, word, word, flip,
    lambda data, start, stop, one: data[:start],
    lambda data, start, stop, one: data[:start] + data[stop:],
    lambda data, start, stop, one: data[:stop] + data[start:stop] * one((1, 2, 99)) + data[stop:],
    lambda data, start, stop, one: data[:start] + one(INSERTS) + data[start:],
    lambda data, start, stop, one: one(INSERTS) + data,
    lambda data, start, stop, one: b"".join(one(data.splitlines(True) or [b""]) for _ in range(6)),
    lambda data, start, stop, one: data.replace(b"\n", one(LINE_ENDS)),
    lambda data, start, stop, one: data.decode("utf-8", "replace").encode(one(ENCODINGS)),
)


def change(data, generator, changes):
    """The bytes after one of `changes`."""
    ends = sorted(generator.randrange(len(data) + 1) for _ in range(2))
    return generator.choice(changes)(data, *ends, generator.choice)


def spoil_text(data, generator):
    """A text's bytes after one to four changes, or noise."""
    if generator.random() < 0.05:
        letters = generator.choice((range(256), b" \n\n,:{}[]\"'&*!|>-?#%~.0123456789abcx"))
        return bytes(generator.choices(letters, k=generator.choice((0, 1, 10, 1000, 30_000))))
    for _ in range(generator.choice((1, 1, 1, 2, 4))):
        data = change(data, generator, CHANGES)[:300_000]
    return data


def read_names(path):
    check_labels("names", LABELS, "label.json")
    assert all(name.strip() and name.encode() for name in read_label_names(path))  # a run has them


def check_options(found):
    for value in found:
        assert not isinstance(value, float) or abs(value) < np.inf
        assert not isinstance(value, str) or os.fsencode(value)  # most are paths


TRAIN = b"""# a training
train_data: data
backbone: EfficientNetB0
epochs: 30
input_size: 32
learning_rate: 5.0e-4
fill_color: [255, 255, 255]
horizontal_flip: yes
normalize: [120, 110, 100, 60.5, 61, 62]
devices: gpu:0,gpu:1
"""
FINDINGS = b"""path,kind,severity,group,class,detail,action
data/img_0.jpg,undecodable,error,,,"cannot be decoded: ""x"", no end",remove
data/img_1.jpg,exact_duplicate,warning,1,glass,copy of data/img_2.jpg,
"""
TABLE = b"""path,label,suggested,how,new_label
data/img_0.jpg,cardboard,glass,training,glass
data/img_1.jpg,glass,metal,"model, 0.9",
"""
TEXTS = {  # kind: path, sound bytes, how they are read
    "label text": ("spoilt/img_1.txt", b"img_1.jpg, 0\n", lambda _: read_samples("spoilt", LABELS)),
    "label.json": ("names/label.json", b'{\n "0": "cardboard",\n "1": "glass",\n "2": "metal"\n}\n',
                   read_names),
    **{f"config of {mode}": ("config.yaml", text, lambda path, mode=mode: check_options(
        parser.parse(mode, ["--config", path]))) for mode, text in (
            ("train", TRAIN),
            ("predict", b"run: first\nimage:\n- a.jpg\n- b/*.png\ntop_k: 3\ntta: flip\n"),
            ("dir2txt", b"source: a\ntarget: b\nhow: link\nsplit: [0.8, 0.1, 0.1]\n"),
            ("serve", b"model: first\nhost: 127.0.0.1\nport: 5001\ntime_limit: 10.0\n"))},
    "options.yaml": ("run/options.yaml", TRAIN, lambda _: check_options(
        run_folder.read("run", None).options)),
    "metrics.json": ("run/metrics.json", b'{\n "epoch": 3,\n "val_loss": 1.2e-1,\n "a": null\n}\n',
                     lambda _: run_folder.read_metrics("run")),
    "mean_std.json": (
        "mean_std.json", b'{"mean": [121.5, 110, 99.0], "standard_deviation": [60.1, 58, 61]}\n',
        read_normalization),
    "findings.csv": ("findings.csv", FINDINGS, lambda path: quarantine.clean(path, dry_run=True)),
    "relabel table": ("table.csv", TABLE, lambda path: relabel.read(path, LABELS, "label.json")),
}
# Where a format's files hold sizes: around them, the bytes a number has, their order
SIZE_FIELDS = (
    (rb"\x89PNG.{12}(.{8})", 4, "big"), (rb"\xff[\xc0-\xc2].{3}(.{4})", 2, "big"),
    (rb"BM.{16}(.{8})", 4, "little"), (rb"GIF8.a(.{4})", 2, "little"),
    (rb"\0,.{4}(.{4})", 2, "little"), (rb"VP8 .{7}\x9d\x01\x2a(.{4})", 2, "little"),
    (rb"VP8L.{5}(.{4})", 4, "little"), (rb"VP8X.{8}(.{6})", 3, "little"),
    (rb"[\x00-\x03\x06\x11\x15-\x17]\x01[\x03\x04]\0\x01\0{3}(.{4})", 4, "little"),  # of TIFF
    (rb"ispe\0{4}(.{8})", 4, "big"),
    (rb"(.{4})(?:meta|iprp|ipco|iloc|mdat|hvcC|av1C|clap)", 4, "big"),
    (rb"iloc\0{4}.{8}(.{12})", 4, "big"), (rb"clap(.{32})", 4, "big"),
)
SIZES = (0, 1, 31, 33, 256, 1000, 5000, 14000, 14143, 16383, 32767, 65500, 65535, 65536, 2**24 - 1,
         2**31 - 1, 2**32 - 1)
PIECES = re.compile(rb"(?=\xff[\xc0-\xcf\xd8-\xfe])|(?=.{4}(?:tEXt|IDAT|PLTE|fcTL|fdAT|eXIf|IEND))"
                    rb"|(?=ANMF|VP8|ALPH|EXIF|!\xf9|,\0{4})"
                    rb"|(?=.{4}(?:ftyp|meta|infe|ipco|ispe|irot|hvcC|av1C|colr|pixi|mdat))",
                    re.DOTALL)
MAGICS = (b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"BM", b"RIFF\x10\0\0\0WEBPVP8 ", b"GIF89a",
          b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"%!PS-Adobe", b"P6 9 9 255\n", b"\0\0\0\x0cjP  ",
          b"\0\0\0\x1cftypheic", b"\0\0\0\x1cftypavif")


@functools.cache
def pictures():
    """Small sound files of every format that is read, in its varieties; bytes."""
    found = fuzz_requests.images()
    image, turned = Image.open(io.BytesIO(found[0])), Image.Exif()
    turned[0x0112] = 6
    several = {"save_all": True, "append_images": [image.rotate(180)]}
    for mode, formats, extra in (
        ("1", "PNG BMP TIFF", {}), ("LA", "PNG", {}), ("P", "BMP TIFF", {}), ("L", "BMP GIF", {}),
        ("RGB", "JPEG PNG WEBP TIFF AVIF", {"exif": turned}),
        ("RGB", "GIF PNG WEBP TIFF AVIF", several), ("RGBA", "AVIF", {"subsampling": "4:4:4"}),
        ("RGB", "JPEG", {"progressive": True}), ("P", "PNG GIF", {"transparency": 3}),
        ("RGB", "WEBP", {"lossless": True}), ("1", "TIFF", {"compression": "group4"}),
        *(("RGB", "TIFF", {"compression": each}) for each in ("jpeg", "tiff_lzw", "packbits")),
    ):
        for name in formats.split():
            image.convert(mode).save(file := io.BytesIO(), name, **extra)
            found.append(file.getvalue())
    return [*found, *HEIC.values()]


def lie(data, generator):
    """Another size in one or several of the places where a file holds some."""
    places = [(*found.span(1), width, order) for pattern, width, order in SIZE_FIELDS
              for found in re.finditer(pattern, data, re.DOTALL)]
    for start, stop, width, order in generator.choices(places, k=3) if places else ():
        data = data[:start] + b"".join(
            (generator.choice(SIZES) % 256**width).to_bytes(width, order)
            for _ in range(start, stop, width)) + data[stop:]
    if data[12:16] == b"IHDR":
        data = data[:29] + struct.pack(">I", zlib.crc32(data[12:29])) + data[33:]
    return data


def repeat(data, generator):
    """A chunk, segment or frame many times, in half of the cases with another size."""
    parts = PIECES.split(lie(data, generator) if generator.random() < 0.5 else data)
    parts[generator.randrange(len(parts))] *= generator.choice((2, 9, 1000))
    return b"".join(parts)


def bomb(data, generator):
    """A PNG of one colour, kilobytes for up to 65535 x 65535 pixels, of which 2 GB are there."""
    width, height = (round(2 ** generator.uniform(8, 16)) - 1 for _ in range(2))
    depth, kind, samples = generator.choice(((1, 0, 1), (16, 0, 1), (8, 2, 3), (8, 6, 4)))
    length = min(2**31, height * (1 + (width * depth * samples + 7) // 8))
    press = zlib.compressobj(9, wbits=-15)
    block = press.compress(bytes(2**20)) + press.flush(zlib.Z_FULL_FLUSH)  # stands for itself
    rows = b"\x78\xda" + block * (length >> 20) + zlib.compress(bytes(length % 2**20), wbits=-15)
    rows += struct.pack(">HH", length % 65521, 1)  # Adler-32 of zeros, RFC 1950, section 2.2
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part))
        for name, part in ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")))


def scans(data, generator):
    """A progressive JPEG of one colour and up to 24 megapixels; its last scan comes repeatedly."""
    side = round(2 ** generator.uniform(8, 12.25))
    Image.new("L", (side, side)).save(file := io.BytesIO(), "JPEG", progressive=True)
    data = file.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * generator.choice((1, 10, 100, 1000)) + data[-2:]


IMAGES = {  # kind: bytes and generator -> bytes
    "sound": lambda data, generator: data,
    "cut": lambda data, generator: data[: generator.randrange(len(data))],
    "flipped": lambda data, generator: change(data, generator, (flip,)),
    "another size": lie,
    "repeated": repeat,
    "bomb": bomb,
    "many scans": scans,
    "ISO media": lambda data, generator: generator.choice((lie, repeat, IMAGES["flipped"],
        IMAGES["cut"]))(generator.choice([data for data in pictures() if data[4:8] == b"ftyp"]),
                        generator),
    "appended": lambda data, generator: data + generator.choice(
        (data, generator.choice(pictures()), bytes(10**6), generator.randbytes(999))),
    "prefixed": lambda data, generator: generator.choice(MAGICS) + data[generator.randrange(9) :],
}


class Result(NamedTuple):
    """Of a case. `outcome` is value, refusal, or what was wrong; the greatest of its readings."""

    kind: str
    number: int
    outcome: str
    seconds: float
    memory: int


def case(seed, kind, number):
    """(bytes of a case, the generator they were made with); number 0 of a text is sound."""
    generator = random.Random(f"{seed}-{kind}-{number}")
    if kind in IMAGES:
        return IMAGES[kind](generator.choice(pictures()), generator), generator
    sound = TEXTS[kind][1]
    return (spoil_text(sound, generator) if number else sound), generator


def measured(read, refusal):
    """(outcome, seconds of the processor, bytes above the start) of one reading."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # forget the peak of the cases before
    before, began = resident("VmRSS"), time.process_time()
    limit = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(began) + SECONDS + 2, limit))
    faulthandler.dump_traceback_later(HANGS, exit=True)
    outcome = "value"
    try:
        read()
    except BaseException as error:
        outcome = "refusal"
        places = " ".join(f"{os.path.basename(place.filename)}:{place.lineno}"
                          for place in traceback.extract_tb(error.__traceback__)[2:][-6:])
        if isinstance(error.__context__, MemoryError) or not isinstance(error, refusal):
            outcome = f"{error.__context__!r:.90} -> {error!r:.300} at {places}"
        elif len(str(error).splitlines()) != 1:
            outcome = f"message of several lines at {places}: {str(error)!r:.300}"
    faulthandler.cancel_dump_traceback_later()
    seconds, memory = time.process_time() - began, resident("VmHWM") - before
    if seconds > SECONDS or memory > MEMORY:
        outcome = f"{seconds:.1f} s, {memory / 1e6:.0f} MB: {outcome}"
    return outcome, seconds, memory


def tried(seed, kind, number, max_pixels):
    """The `Result` of one case, in the process that `begin` has made ready."""
    os.truncate("log", 0)
    data, generator = case(seed, kind, number)
    path, _, read = TEXTS.get(kind, ("image", None, None))
    with open(path, "wb") as file:
        file.write(data)
    if read:
        return Result(kind, number, *measured(lambda: read(path), InputError))
    size, resize = generator.choice((8, 64, 224)), generator.choice(OPTIONS["resize"].type.choices)
    how = Preprocessing(size, resize, (250, 0, 9), max_pixels)

    def check(image, *sides):
        assert image.dtype == np.uint8 and image.shape == (*(sides or image.shape[:2]), 3)

    outcomes, seconds, memory = zip(*(measured(read, ImageError) for read in (
        lambda: check(load(data, how), size, size), lambda: check(decode(data, how)),
        lambda: check(load(path, how), size, size),
    )))
    wrong = {*outcomes} - {"value", "refusal"}
    return Result(kind, number, " / ".join(sorted(wrong or {*outcomes})), max(seconds), max(memory))


def begin(folder):
    """Makes this process ready: a folder for the files, a log for crashes, a limit on memory."""
    os.chdir(folder)
    os.dup2(os.open("log", os.O_CREAT | os.O_WRONLY | os.O_APPEND), 2)
    faulthandler.enable()
    faulthandler.register(signal.SIGXCPU, chain=True)  # it ends the process, with a traceback
    for name in ("spoilt", "data", "names", "run"):
        os.mkdir(name)
        write_label_names(name, LABELS)
        for number in range(len(LABELS)):
            open(f"{name}/img_{number}.jpg", "w").close()
            write_sample(name, f"img_{number}.jpg", number)
    pictures()
    limit = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (resident("VmSize") + GUARD, limit))


def lane(seed, cases, place, max_pixels):
    """The `Result`s of cases in one process, and in another after each that ends it."""
    results, pool = [], None
    for kind, number in cases:
        if pool is None:
            folder = tempfile.mkdtemp(dir=place)
            pool = ProcessPoolExecutor(1, get_context("spawn"), begin, (folder,))
        try:
            results.append(pool.submit(tried, seed, kind, number, max_pixels).result())
        except BrokenProcessPool:
            pool = None
            with open(os.path.join(folder, "log"), errors="replace") as file:
                told = " ".join(file.read().split())  # of faulthandler
            results.append(Result(kind, number, f"process ended: {told:.600}", SECONDS, 0))
    if pool:
        pool.shutdown()
    return results


def fuzz(texts, images, seed=0, max_pixels=MAX_PIXELS):
    """The `Result`s of so many cases, shared out evenly over their kinds."""
    cases = [(list(kinds)[number % len(kinds)], number // len(kinds))
             for kinds, count in ((TEXTS, texts), (IMAGES, images)) for number in range(count)]
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(2) as pool:
        halves = pool.map(lambda first: lane(seed, cases[first::2], place, max_pixels), range(2))
        return [result for half in halves for result in half]


def finds(results):
    return [each for each in results if each.outcome not in ("value", "refusal")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000, help="texts")
    parser.add_argument("--images", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", help="folder for the files of finds")
    arguments = parser.parse_args()
    results = fuzz(arguments.count, arguments.images, arguments.seed)
    for each in finds(results):
        print(f"{each.kind} {each.number}: {each.outcome}")
        if arguments.keep:
            os.makedirs(arguments.keep, exist_ok=True)
            with open(os.path.join(arguments.keep, f"{each.kind} {each.number}"), "wb") as file:
                file.write(case(arguments.seed, each.kind, each.number)[0])
    print(f"{'kind':<18}  cases values refusals finds seconds megabytes")
    for kind in [*TEXTS, *IMAGES, "all"]:
        if of := [each for each in results if kind in (each.kind, "all")]:
            values, refusals = ([each.outcome for each in of].count(word)
                                for word in ("value", "refusal"))
            print(f"{kind:<18} {len(of):>6} {values:>6} {refusals:>8} {len(finds(of)):>5} "
                  f"{max(each.seconds for each in of):>7.2f} "
                  f"{max(each.memory for each in of) / 1e6:>9.0f}")
    return 1 if finds(results) else 0


if __name__ == "__main__":
    raise SystemExit(main())
