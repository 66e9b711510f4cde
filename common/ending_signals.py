"""Ctrl-C, SIGTERM and a closed terminal end a command, wherever in its code they reach it."""

import signal
import sys
import threading

from common import console

ENDING_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
AGAIN_SECONDS = 0.05  # after which a signal that was lost is raised once more


def handle_ending_signals():
    """Has SIGINT raise KeyboardInterrupt, and SIGTERM and SIGHUP end the process.

    A signal that the process was started to ignore, as `nohup` does, stays ignored. An exception
    that a library's callback swallows, such as one called at garbage collection, is raised again.
    """
    for name in ENDING_SIGNALS:
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _end)
    sys.unraisablehook = _raise_again


def _end(signal_number, frame):
    console.tolerate_closed_output()
    if signal_number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + signal_number)


def _raise_again(unraisable):
    """The hook for exceptions that cannot go up; a signal's would be lost in it."""
    number = _signal_of(unraisable.exc_value)
    if number is None:
        sys.__unraisablehook__(unraisable)
        return
    timer = threading.Timer(AGAIN_SECONDS, _send_to_main_thread, [number])
    timer.daemon = True
    timer.start()


def _signal_of(error):
    """The signal whose handler has raised an exception, or None."""
    for name in ENDING_SIGNALS:
        number = getattr(signal, name, None)
        if number is None or signal.getsignal(number) != _end:
            continue
        if number == signal.SIGINT and isinstance(error, KeyboardInterrupt):
            return number
        if isinstance(error, SystemExit) and error.code == 128 + number:
            return number
    return None


def _send_to_main_thread(number):
    if hasattr(signal, "pthread_kill"):  # it also ends a system call that waits
        signal.pthread_kill(threading.main_thread().ident, number)
    else:
        signal.raise_signal(number)
