"""The entry point of all modes: `python run.py --mode train | eval | predict | ...`.

Lets `config/parser.py` parse the options, imports the one module that `config/modes.py` names for
the mode, and calls its `main(options)`, for example `inference.main(options: PredictOptions)`.
Nothing heavy is imported before that.
"""

import importlib
import os
import sys
import threading
import traceback

if sys.version_info < (3, 11):  # noqa: UP036  before the imports, which older ones cannot read
    sys.exit(
        "run.py: Python {}.{} is too old; 3.11, 3.12 or 3.13 is needed: bash sh/setup.sh finds it "
        "and installs into .venv, then: .venv/bin/python run.py".format(*sys.version_info)
    )

from common import console
from common.commands import command_line
from common.ending_signals import handle_ending_signals
from common.errors import InputError, RunError, nearest
from common.write_errors import is_disk_full, write_error
from compute.device_names import uses_several_devices
from config import parser
from config.modes import MODES, MODES_BY_PURPOSE
from config.next_steps import next_step

LONGEST_MESSAGE = 2000  # characters
ROOT = os.path.dirname(os.path.abspath(__file__))


def table_of_modes():
    """The text that `run.py --help` prints.

    Returns:
        str, one line per mode, by what one wants to do.
    """
    lines = ["usage: python run.py MODE [options]"]
    for purpose, names in MODES_BY_PURPOSE.items():
        lines += ["", f"{purpose}:", *(f"  {name:<17} {MODES[name].summary}" for name in names)]
    lines += ["", "python run.py MODE --help lists the options of a mode."]
    return "\n".join(lines)


def split_mode(argv):
    """Takes `--mode X`, or X where it comes first, out of the arguments.

    Args:
        argv: list of str, the arguments of `run.py`.

    Returns:
        (mode, arguments): X or None, and list of the other arguments.

    Example:
        >>> split_mode(["--mode", "train", "--epochs", "5"])
        ('train', ['--epochs', '5'])
        >>> split_mode(["train", "--epochs", "5"])
        ('train', ['--epochs', '5'])
    """
    if argv and not argv[0].startswith("-"):
        return argv[0], argv[1:]
    mode, other_arguments, words = None, [], iter(argv)
    for word in words:
        if word == "--mode":
            mode = next(words, "")
        elif word.startswith("--mode="):
            mode = word.removeprefix("--mode=")
        else:
            other_arguments.append(word)
    return mode, other_arguments


def main(argv):
    """Runs one command; an error becomes one line on standard error.

    Args:
        argv: list of str, the arguments of `run.py`.

    Returns:
        int, the exit status: 0; 1 where the command failed; 2 for wrong usage or bad input;
        130 after Ctrl-C; or what the mode returns. A closed terminal (SIGHUP) and SIGTERM end the
        process with 129 and 143.
    """
    mode, arguments = split_mode(argv)
    debug = "--debug" in arguments
    try:
        if mode is None and (not arguments or arguments in (["--help"], ["-h"])):
            print(table_of_modes())
            return 0
        if mode is None and arguments == ["--version"]:
            return _print_version()
        _check_mode(mode)
        options = parser.parse(mode, arguments)
        debug = options.debug
        _prepare_process(debug)
        _configure_cache(options)
        result = _task_module(mode, options).main(options)
        status = result if isinstance(result, int) else 0
        if not (status or options.json):
            _say_next_step(mode, options, result)
        return status
    except (InputError, RunError) as error:
        return _report(str(error), error.status, debug)
    except KeyboardInterrupt:
        return _report("interrupted", 130, debug=False)
    except BrokenPipeError:  # the reader of the output, `head` for example, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and not _is_own(error.name):
            return _report(_missing_module(error.name), 1, debug)
        if is_disk_full(error):
            return _report(str(write_error(error, "a file")), 1, debug)
        message = f"failed: {type(error).__name__}: {error} (--debug shows where)"
        return _report(message, 1, debug)


def _print_version():
    from other.doctor import toolkit

    rows = toolkit(None)
    print(f"{rows['version']} ({rows['commit'][:12]}), Python {rows['Python']}")
    return 0


def _say_next_step(mode, options, result):
    words = next_step(mode, options, result)
    if words:
        console.say(f"next: {command_line(*words)}")


def _is_own(module_name):
    """Whether a module would be one of this project's: then it is a fault of ours."""
    path = os.path.join(ROOT, (module_name or "").split(".")[0])
    return os.path.exists(path) or os.path.exists(path + ".py")


def _missing_module(name):
    """What to do where a package of the toolkit is not installed."""
    own_python = os.path.join(ROOT, ".venv", *_PYTHON_OF_ENVIRONMENT)
    if os.path.exists(own_python) and not os.path.samefile(sys.prefix, os.path.join(ROOT, ".venv")):
        return f"{name} is not installed for {sys.executable}; use {own_python} run.py"
    return f"{name} is not installed for {sys.executable}; bash sh/setup.sh installs everything"


_PYTHON_OF_ENVIRONMENT = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")


def _check_mode(mode):
    if mode not in MODES:
        names = [name for name in MODES if not MODES[name].hidden]
        problem = "is missing" if mode is None else f"{mode!r} is not a mode"
        suggestion = nearest(mode or "", names)
        raise InputError(f"--mode {problem}; allowed: {', '.join(names)}{suggestion}")


def _prepare_process(debug):
    if debug:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0")
    handle_ending_signals()
    if hasattr(sys.stdout, "reconfigure"):  # file names need not be UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")


def _configure_cache(options):
    if hasattr(options, "cache_dir"):
        from data import remote_places  # not for --help

        remote_places.configure(options.cache_dir, options.cache_gigabytes)


def _task_module(mode, options):
    module_name = MODES[mode].module
    if MODES[mode].distributed_module and uses_several_devices(options):
        module_name = MODES[mode].distributed_module
    return importlib.import_module(module_name)


def _report(message, status, debug):
    """Prints an error in one line, after the traceback under --debug; returns `status`."""
    console.tolerate_closed_output()
    if debug:
        traceback.print_exc()
    error_line = " ".join(message.split())
    if len(error_line) >= LONGEST_MESSAGE:
        error_line = error_line[:LONGEST_MESSAGE] + " ..."
    print(f"run.py: {error_line}", file=sys.stderr)
    return status


def leave(argv):
    """Runs one command and ends the process, even while a thread is stuck in reading a file.

    Args:
        argv: list of str, the arguments of `run.py`.
    """
    try:
        exit_status = main(argv)
    except SystemExit as end:  # --help, and SIGTERM
        exit_status = end.code
    if any(thread.name.startswith("decode") for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_status or 0)
    sys.exit(exit_status)


if __name__ == "__main__":
    leave(sys.argv[1:])
