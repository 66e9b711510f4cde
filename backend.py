"""Imports Keras on its backend, quietly; it takes seconds, so only when it is needed."""

import contextlib
import os


def import_keras():
    """Imports and returns Keras; call it before anything that imports Keras by itself.

    TensorFlow greets with a page of notes before its own log level counts. They are
    kept off standard error unless TF_CPP_MIN_LOG_LEVEL asks for more, as --debug does.
    """
    # A ~/.keras/keras.json of another project must not choose the backend.
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    quiet = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "3"
    with _no_stderr() if quiet else contextlib.nullcontext():
        import keras

        if keras.backend.backend() == "tensorflow":
            import tensorflow  # noqa: F401  the rest of its greeting comes here
    return keras


@contextlib.contextmanager
def _no_stderr():
    # The notes come from C++, which Python's sys.stderr knows nothing of.
    saved = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
