"""What Pillow and its libtiff would write to standard error: nothing, or what one wants to hear.

A damaged TIFF of 2 MB makes it write 900,000 lines, which take seconds.
"""

import contextlib
import ctypes
import glob
import logging
import os
import threading

import PIL

MAX_MESSAGES = 10  # that are kept of one thread
MAX_LENGTH = 500  # bytes of a message

# void handler(const char *module, const char *format, va_list arguments). On all platforms with a
# library of its own the arguments arrive as a pointer, and `vsnprintf` takes them as one.
_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
_local = threading.local()


def silence():
    """Makes Pillow and libtiff write nothing to standard error.

    Where libtiff is not a file of its own, as in Pillow's wheels for Windows, it stays as it is.
    """
    _set_handlers(None, None)
    # Without a handler Python writes what Pillow logs as an error.
    logging.getLogger("PIL").addHandler(logging.NullHandler())


@contextlib.contextmanager
def hearing_libtiff():
    """Context in which `messages` collects what libtiff says in the same thread."""
    _set_handlers(*_HANDLERS)
    try:
        yield
    finally:
        _set_handlers(None, None)


@contextlib.contextmanager
def messages():
    """Context that gives the list of what libtiff says in this thread, while it is heard.

    Yields:
        list of (bool, str): whether it is an error and not a warning, and the text.
    """
    _local.kept = kept = []
    try:
        yield kept
    finally:
        del _local.kept


def _keep_error(module, text_format, arguments):
    _keep(True, text_format, arguments)


def _keep_warning(module, text_format, arguments):
    _keep(False, text_format, arguments)


def _keep(is_error, text_format, arguments):
    kept = getattr(_local, "kept", None)
    if kept is None or len(kept) >= MAX_MESSAGES:
        return
    buffer = ctypes.create_string_buffer(MAX_LENGTH)
    _c_library().vsnprintf(buffer, MAX_LENGTH, text_format, ctypes.c_void_p(arguments))
    kept.append((is_error, buffer.value.decode("latin-1").strip()))


# For good: a thread may be in libtiff, on its way to a handler, when it is taken off.
_HANDLERS = (_HANDLER(_keep_error), _HANDLER(_keep_warning))


def _c_library():
    return ctypes.CDLL(None)


def _set_handlers(error_handler, warning_handler):
    folder = os.path.dirname(PIL.__file__)
    for path in (
        *glob.glob(os.path.join(folder, os.pardir, "pillow.libs", "libtiff*")),  # Linux
        *glob.glob(os.path.join(folder, ".dylibs", "libtiff*")),  # macOS
    ):
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL(path)
            library.TIFFSetErrorHandler(error_handler)
            library.TIFFSetWarningHandler(warning_handler)
