"""The front door: `python run.py --mode train | eval | predict | ...`.

Holds the table of modes, lets `parser.py` parse, imports the one module that the
mode names and calls its `main(options)`. Nothing heavy is imported before that.
"""

import importlib
import os
import signal
import sys
import threading
import traceback

from common.errors import InputError, RunError
from compute.device_names import several
from config import parser

# mode -> module, one line of what it is for
MODES = {
    "train": ("train", "train a classifier on a folder of labelled images"),
    "eval": ("eval", "measure a run or an exported model on labelled images"),
    "predict": ("inference", "name the classes of images"),
    "save_pb": ("save_model", "export a run as a SavedModel that serves by itself"),
    "export": ("save_model", "export a run for TensorFlow, ONNX Runtime and OpenVINO"),
    "benchmark": ("other.benchmark", "compare what an exported model can be computed by, here"),
    "serve": ("deployment.server", "answer requests over HTTP"),
    "backbones": ("other.backbone_table", "list the backbones: size, cost, weights"),
    "fetch_weights": ("other.fetch_weights", "bring a backbone's ImageNet weights to this machine"),
    "preview": ("other.preview", "write a picture of a training batch as the model sees it"),
    "dir2txt": (
        "other.data_reconstruction_dir2txt",
        "turn a folder with one folder a class into the sample format",
    ),
    "txt2dir": (
        "other.data_reconstruction_txt2dir",
        "turn the sample format into a folder a class, or a CSV",
    ),
    "mean_std": ("other.mean_std", "mean and deviation of a folder's pixels"),
    "statistics": ("other.statistics_visual", "chart the images a class, their sizes and shapes"),
    "confusion_matrix": ("other.confusion_matrix", "chart which classes are taken for which"),
    "audit": ("other.data_del", "look for broken files, wrong labels, duplicates and leaks"),
    "clean": ("other.quarantine", "move what the audit found out of the way, or bring it back"),
    "report": ("other.report", "one page about a run: scores, errors, doubtful labels"),
    "relabel": ("other.relabel", "correct labels from the report's table"),
    "compare": ("other.compare", "say whether one run is better than another"),
    "calibrate": ("other.calibrate", "make probabilities honest, and let a model say unknown"),
    "doctor": ("other.doctor", "one page about this installation, for a bug report"),
    "demo_data": ("other.demo_data", "write 1,797 handwritten digits in the sample format"),
}

# What takes the place of a mode's module for several devices or processes
SEVERAL = {"train": "multigpu_train", "save_pb": "save_multigpu_model"}


def table():
    """The modes as text, a line each."""
    lines = ["usage: python run.py --mode MODE [options]", "", "modes:"]
    lines += [f"  {name:<17} {summary}" for name, (_, summary) in MODES.items()]
    lines += ["", "python run.py --mode MODE --help lists the options of a mode."]
    return "\n".join(lines)


def split_mode(argv):
    """Takes `--mode X` out of the arguments: (X or None, the others)."""
    mode, rest, words = None, [], iter(argv)
    for word in words:
        if word == "--mode":
            mode = next(words, "")
        elif word.startswith("--mode="):
            mode = word[len("--mode=") :]
        else:
            rest.append(word)
    return mode, rest


def main(argv):
    """Runs one command. Returns its exit status: 0, 1 (failed), 2 (bad input)."""
    mode, rest = split_mode(argv)
    debug = "--debug" in rest
    try:
        if mode is None and (not rest or rest in (["--help"], ["-h"])):
            print(table())
            return 0
        if mode not in MODES:
            found = "is missing" if mode is None else f"{mode!r} is not a mode"
            raise InputError(
                f"--mode {found}; allowed: {', '.join(MODES)}" + parser.nearest(mode or "", MODES)
            )
        options = parser.parse(mode, rest)
        debug = options.debug
        if debug:
            os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0")
        signal.signal(signal.SIGTERM, _terminate)
        if hasattr(sys.stdout, "reconfigure"):  # file names need not be UTF-8
            sys.stdout.reconfigure(errors="backslashreplace")
        module = MODES[mode][0]
        if mode in SEVERAL and several(options):
            module = SEVERAL[mode]
        return importlib.import_module(module).main(options) or 0
    except (InputError, RunError) as error:
        if debug:
            traceback.print_exc()
        return _say(str(error), error.status)
    except KeyboardInterrupt:
        return _say("interrupted", 130)
    except BrokenPipeError:  # the reader, `head` for instance, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debug:
            traceback.print_exc()
        return _say(f"failed: {type(error).__name__}: {error} (--debug shows where)", 1)


def _terminate(number, frame):
    sys.exit(128 + number)


def _say(message, status):
    line = " ".join(message.split())
    print(f"run.py: {line if len(line) < 2000 else line[:2000] + ' ...'}", file=sys.stderr)
    return status


def leave(argv):
    """Runs one command and ends the process, which a thread stuck in reading would keep alive."""
    try:
        status = main(argv)
    except SystemExit as end:  # --help, and SIGTERM
        status = end.code
    if any(thread.name.startswith("decode") for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status or 0)
    sys.exit(status)


if __name__ == "__main__":
    leave(sys.argv[1:])
