"""One page about this installation, to paste into a bug report.

What fails says why and leaves the rest; so packages that may be broken are imported late.
"""

import contextlib
import functools
import getpass
import importlib.util
import io
import os
import platform
import re
import shutil
import sys
import tempfile
import time
import traceback
from importlib import metadata
from pathlib import Path

import numpy as np

from common.console import say, show
from common.cpu import usable_cores
from common.errors import InputError, RunError
from config.mode_options import DoctorOptions
from config.option_table import OPTIONS
from modeling import backbones

ROOT = Path(__file__).resolve().parents[1]
PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
# What networks gain from, as cpuinfo calls it on x86 and ARM
FEATURES = re.compile(r"\b(?:avx2|avx512f|\w*vnni|\w*bf16|amx_\w+)\b")
VARIABLES = ("KERAS_BACKEND", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "XLA_FLAGS")
# Terraform has TF_VAR_..., passwords among them, and TF_CLI_..., which may hold some.
SECRET_NAMES = re.compile("AUTH|CRED|KEY|PASS|SECRET|TOKEN|TF_(CLI|VAR)_")
# An address with a password; a long word, but no words_like_these and no name of a --flag
SECRET_VALUES = re.compile(r"@|(?<!--)(?<!\w)(?![a-z_]+(?![\w+-]))\w[\w+-]{15,}")
BAD = "NOT OK: "  # before what the exit status tells of
SIZE, STEPS = 32, 8  # of what is tried: pixels a side; of the training: steps


def main(options: DoctorOptions):
    """`--mode doctor`. Returns the exit status: 1 where something is not ok, else 0."""
    page, problems = {}, []
    for heading, find in PARTS.items():
        if heading in SLOW_PARTS and not options.full:
            continue
        with contextlib.redirect_stdout(sys.stderr):  # libraries have things to say
            section = _attempt(options, find, options)
        section = {heading: section} if isinstance(section, str) else section
        page[heading] = rows = {name: private(text) for name, text in section.items()}
        problems += [
            f"{heading}: {name}: {text.removeprefix(BAD)}"
            for name, text in rows.items()
            if text.startswith(BAD)
        ]
        if not options.json:  # at once: a broken library can end the process
            lines = [f"  {name:<{max(map(len, rows))}}  {text}" for name, text in rows.items()]
            print("\n".join([heading, *lines, ""]), flush=True)
    if options.json:
        show({"ok": not problems, "problems": problems, **page}, str, as_json=True)
    else:
        print("\n".join(["problems", *(f"  {line}" for line in problems or ["none"])]))
    if not options.full:
        say(f"--full also checks {', '.join(SLOW_PARTS)}, which takes up to a minute")
    return 1 if problems else 0


def _attempt(options, find, *arguments):
    """What `find` gives, or, where it fails, one line about that."""
    try:
        return find(*arguments)
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        kind = "" if isinstance(error, (InputError, RunError)) else f"{type(error).__name__}: "
        return BAD + kind + " ".join(str(error).split())[:300]


def _each(options, find, names):
    """The rows of a function that gives a text for a name, with the time that each takes."""
    rows = {}
    for name in names:
        say(f"{name} ...")
        start = time.perf_counter()
        rows[name] = f"{_attempt(options, find, name)} ({time.perf_counter() - start:.1f} s)"
    return rows


def private(text):
    """Hides the user: paths begin at the working folder or at ~, and do not name the user.

    Args:
        text: str.

    Returns:
        str.
    """
    for folder, short in ((os.getcwd(), "."), (os.path.expanduser("~"), "~")):
        if len(folder) > 1:
            text = re.sub(rf"(?<![\w.~-]){re.escape(folder)}(?![\w-])", short, text)
    # In a container, a number without a name; on Windows, where no variable has it, no module pwd
    with contextlib.suppress(KeyError, OSError, ImportError):
        user = re.compile(rf"(?<![A-Za-z0-9]){re.escape(getpass.getuser())}(?![A-Za-z0-9])")
        # In paths only: a user can be called tensorflow.
        text = re.sub(r"\S*[/\\]\S*", lambda path: user.sub("USER", path[0]), text)
    return text


def _search(pattern, path):
    """What a pattern's group matches in a file, ^ and $ being a line's ends; else empty."""
    text = path.read_text("utf-8", "replace") if os.access(path, os.R_OK) else ""
    match = re.search(pattern, text, re.MULTILINE)
    return match[1].strip() if match else ""


def toolkit(options):
    """The versions of this toolkit and of Python, and the system.

    Args:
        options: `DoctorOptions`.

    Returns:
        dict of name -> str, one row of the page each.
    """
    return {
        "version": _search("^## *(.+)", ROOT / "CHANGELOG.md") or "unknown",
        # The last line tells where HEAD is. Not asked of git, which may not be installed.
        "commit": _search(r"^\w+ (\w+) .*\n\Z", ROOT / ".git/logs/HEAD") or "unknown",
        "Python": platform.python_version(),
        "platform": platform.platform(),
    }


def machine(options):
    """The processor and the memory.

    Args:
        options: `DoctorOptions`.

    Returns:
        dict of name -> str, one row of the page each.
    """
    flags = _search(r"^(?:flags|Features)\s*:(.+)", PROC / "cpuinfo")
    total, free = memory()
    return {
        "processor": _search(r"^model name\s*:(.+)", PROC / "cpuinfo") or platform.machine(),
        "features": ", ".join(FEATURES.findall(flags)) or "none known",
        "cores": f"{usable_cores()} usable of {os.cpu_count()}",
        "decoding threads": str(OPTIONS["workers"].default),
        "memory": f"{total / 1e9:.1f} GB, {free / 1e9:.1f} GB free",
    }


def memory():
    """(bytes that this process may have, bytes free of them)."""
    import psutil

    system_memory = psutil.virtual_memory()
    total, free = system_memory.total, system_memory.available
    group = _search(r"^(?:\d+:memory|0:):/(.*)", PROC / "self/cgroup")
    read = functools.partial(_search, r"^(\d+)$")
    # Version 1 has a tree for each controller; a container sees its own group at the top.
    for place in (CGROUPS / group, CGROUPS / "memory" / group):
        for top in (place, *place.parents):
            limit = int(read(top / "memory.max") or read(top / "memory.limit_in_bytes") or 0)
            if 0 < limit < total:
                used = int(read(top / "memory.current") or read(top / "memory.usage_in_bytes"))
                # What is kept of files counts as used, and is given up when needed.
                kept = int(_search(r"^inactive_file (\d+)", top / "memory.stat") or 0)
                total, free = limit, min(free, max(1, limit - used + kept))
    return total, free


def packages(options):
    """The packages of the requirements files, and what else is of another version than pinned.

    Args:
        options: `DoctorOptions`.

    Returns:
        dict of name -> str, one row of the page each.
    """
    from packaging.requirements import Requirement

    rows = {}
    folder = ROOT / "requirements"
    paths = [path for path in sorted(folder.glob("*.txt")) if path.name != "constraints.txt"]
    for path in [ROOT / "requirements.txt", *paths, folder / "constraints.txt"]:
        file_name = path.relative_to(ROOT)
        text = re.sub(r"(^|\s)#.*|^-.*", "", path.read_text("utf-8"), flags=re.MULTILINE)
        for wanted in map(Requirement, filter(None, text.splitlines())):
            if wanted.marker and not wanted.marker.evaluate():
                continue
            installed = next(iter(metadata.distributions(name=wanted.name)), None)
            version = installed.version if installed else ""
            if version and not wanted.specifier.contains(version, prereleases=True):
                rows[wanted.name] = f"{BAD}is {version}, {file_name} has {wanted.specifier}"
            elif path.name != "constraints.txt":
                rows.setdefault(wanted.name, version or f"not installed, {file_name} brings it")
    return rows


def environment(options):
    """The environment variables that change what is computed: no others, and nothing secret.

    Args:
        options: `DoctorOptions`.

    Returns:
        dict of name -> str, one row of the page each.
    """
    rows = {}
    for name, value in sorted(os.environ.items()):
        if name in VARIABLES or name.startswith("TF_"):
            secret = SECRET_NAMES.search(name.upper()) or SECRET_VALUES.search(value)
            text = "set, not shown: it may be a secret" if secret else " ".join(value.split())
            rows[name] = text or "set, empty"
    return rows or {"none": "is set"}


def folders(options):
    """The folders that are written to, each proved by a file that goes again.

    Args:
        options: `DoctorOptions`.

    Returns:
        dict of name -> str, one row of the page each.
    """

    import filelock

    def prove(name):
        path = place = getattr(options, name, None) or tempfile.gettempdir()
        while not os.path.lexists(place):  # where it would be made
            place = os.path.dirname(os.path.abspath(place))
        try:
            with tempfile.NamedTemporaryFile(dir=place, prefix=".doctor-", buffering=0) as file:
                file.write(bytes(4096))
                os.fsync(file.fileno())
                locks = "takes no locks"
                with contextlib.suppress(OSError):
                    filelock.lock_descriptor(file.fileno(), blocking=False)
                    locks = "takes locks"
        except OSError as error:
            raise RunError(f"{path}: cannot be written to: {error.strerror}") from None
        state = "writable" if os.path.exists(path) else "not there yet, can be made"
        return f"{path}: {state}, {shutil.disk_usage(place).free / 1e9:.1f} GB free, {locks}"

    return _each(options, prove, ["save_dir", "log_dir", "temporary"])


def devices(options):
    """What Keras, TensorFlow and JAX, as far as they are installed, compute on.

    Args:
        options: `DoctorOptions`.

    Returns:
        dict of name -> str, one row of the page each.
    """
    installed = [name for name in ("keras", "tensorflow", "jax") if importlib.util.find_spec(name)]

    def find(name):
        from compute.backend import check_jax, import_keras

        if name == "keras":
            return import_keras().backend.backend()
        if name == "jax":
            check_jax()  # sets what has to be set before
            import jax

            return ", ".join(f"{device} ({device.device_kind})" for device in jax.devices())
        import tensorflow as tf

        gpu_names = [
            tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
            for gpu in tf.config.list_physical_devices("GPU")
        ]
        unused = ", though there is /dev/nvidia0" if os.path.exists("/dev/nvidia0") else ""
        return ", ".join(gpu_names) or f"no GPU{unused}"

    return _each(options, find, installed) or {"none": "is installed"}


def decoding(options):
    """A picture of two colours comes back from every format.

    Args:
        options: `DoctorOptions`.

    Returns:
        dict of name -> str, one row of the page each.
    """
    from PIL import Image

    from data.decoding import load
    from data.geometry import Preprocessing
    from data.pillow_formats import FORMATS

    picture = np.full((SIZE, SIZE, 3), (200, 60, 20), np.uint8)
    picture[: SIZE // 2] = (20, 80, 220)

    def prove(name):
        file = io.BytesIO()
        Image.fromarray(picture).save(file, name)
        decoded = load(file.getvalue(), Preprocessing(SIZE), "a picture made here")
        if (error := np.abs(decoded - picture.astype(int)).mean()) > 4:  # JPEG and WebP lose less
            raise RunError(f"comes back changed by {error:.0f} of 255")
        return "ok"

    return _each(options, prove, FORMATS)


@functools.cache
def tiny_model():
    """(the smallest backbone with two classes, compiled; 8 images; their labels, one-hot)."""
    from compute.backend import exact_float32, import_keras

    keras = import_keras()
    from modeling.architecture import Architecture
    from modeling.builder import build_model
    from training.compilation import jit_compile

    exact_float32()  # the export is compared with others
    keras.utils.set_random_seed(0)
    name = min(backbones.TABLE, key=lambda name: backbones.TABLE[name].parameters)
    model = build_model(Architecture(name, SIZE), 2)
    for layer in model.layers:
        layer.momentum = 0.5  # or normalization would not know these images after a few steps
    model.compile("sgd", "categorical_crossentropy", jit_compile=jit_compile("auto"))
    images = np.random.default_rng(0).integers(0, 128, (8, SIZE, SIZE, 3), np.uint8)
    images[::2] += 127  # half of them bright
    return model, images, np.eye(2, dtype=np.float32)[np.arange(8) % 2]


def training(options):
    """A tiny model learns in a few steps.

    Args:
        options: `DoctorOptions`.

    Returns:
        dict of name -> str, one row of the page each.
    """

    def prove(name):
        model, images, labels = tiny_model()
        losses = [float(model.train_on_batch(images, labels)) for _ in range(STEPS)]
        if not np.isfinite(losses).all() or losses[-1] >= losses[0]:
            raise RunError(f"the loss does not fall: {', '.join(f'{loss:.3g}' for loss in losses)}")
        return f"ok: the loss falls from {losses[0]:.3f} to {losses[-1]:.3f} in {STEPS} steps"

    return _each(options, prove, ["training"])


def export(options):
    """The tiny model, exported, answers the same in every runtime that is installed.

    Args:
        options: `DoctorOptions`.

    Returns:
        dict of name -> str, one row of the page each.
    """
    from data.geometry import Preprocessing
    from export import formats
    from export.acceptance import TOLERANCE
    from prediction import runtimes

    names = list(filter(runtimes.is_installed, runtimes.RUNTIMES))
    # Windows keeps files that a runtime has open.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:

        def prove(name):
            model, images, _ = tiny_model()
            if name == "files":
                variants = [formats.Variant(format_name, "float32") for format_name in names]
                formats.write(model, variants, folder, Preprocessing(SIZE), [])
                return "ok"
            answers = runtimes.open_model(folder, name)(images).probabilities
            difference = np.abs(answers - model.predict_on_batch(images)).max()
            if not difference <= TOLERANCE:
                raise RunError(f"answers differ by {difference:.1e}, allowed is {TOLERANCE:g}")
            return f"ok: answers are the same to {difference:.1e}"

        return _each(options, prove, ["files", *names])


PARTS = {
    part.__name__: part
    for part in (
        toolkit,
        machine,
        packages,
        environment,
        folders,
        devices,
        decoding,
        training,
        export,
    )
}
SLOW_PARTS = ("devices", "training", "export")  # TensorFlow is imported for them
