"""Imports Keras on its backend, quietly. That takes seconds, so it is done only when needed."""

import contextlib
import importlib.util
import os
import sys

from common.errors import InputError
from compute.keras_patches import remember_skipped_attributes


def import_keras(backend=None):
    """Imports Keras; call it before anything that imports Keras by itself.

    TensorFlow writes a page of notes before its own log level takes effect. They are
    hidden unless TF_CPP_MIN_LOG_LEVEL asks for more, as --debug does.

    Args:
        backend: str, "tensorflow" or "jax"; None is the value of KERAS_BACKEND, or TensorFlow.
            Ignored if Keras has been imported already.

    Returns:
        The module `keras`.

    Raises:
        InputError: the backend is not installed.

    Example:
        >>> keras = import_keras("tensorflow")
    """
    # The ~/.keras/keras.json of another project must not choose the backend.
    if backend is not None and "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = backend
    if os.environ.setdefault("KERAS_BACKEND", "tensorflow") == "jax":
        check_jax()
    is_quiet = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "3"
    with hidden_output(2) if is_quiet else contextlib.nullcontext():
        import keras

        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf  # writes the rest of its notes

            if is_quiet:  # its warnings of functions traced again would break into bars
                tf.get_logger().setLevel("ERROR")
            for gpu in tf.config.list_physical_devices("GPU"):
                # Allocate what is needed, not the whole memory.
                with contextlib.suppress(RuntimeError):  # TensorFlow has computed already
                    tf.config.experimental.set_memory_growth(gpu, True)
        elif importlib.util.find_spec("tensorflow"):
            # Keras imports it with any backend, to set its seed; it must not occupy the GPUs.
            import tensorflow as tf

            tf.config.set_visible_devices([], "GPU")
    remember_skipped_attributes()
    return keras


def check_jax():
    """Checks that JAX is installed, and sets its environment; call it before importing JAX.

    Raises:
        InputError: JAX is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # JAX would set a lower one
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # allocate as needed
    if importlib.util.find_spec("jax") is None:
        raise InputError(
            "--backend: jax is not installed; install it with .venv/bin/python -m pip install "
            "-r requirements/jax.txt"
        )


def has_gpu():
    """bool, whether Keras computes on a GPU; Keras has to be imported already."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        return jax.default_backend() == "gpu"
    import tensorflow as tf

    return bool(tf.config.get_visible_devices("GPU"))


def use_precision(name, float16=True):
    """Sets the data type that layers compute in; their weights stay float32.

    Args:
        name: str, "float32", "bfloat16", "float16", or "auto": float32 on a processor, where
            half precision is slower; bfloat16 on a GPU that supports it; float16 on older GPUs.
        float16: bool, whether "auto" may choose it; otherwise older GPUs compute in float32.
    """
    import keras

    if name == "auto":
        name = _gpu_precision() if has_gpu() else "float32"
        if name == "float16" and not float16:
            name = "float32"
    keras.config.set_dtype_policy(name if name == "float32" else f"mixed_{name}")


def exact_float32():
    """Makes a GPU multiply in float32 instead of TF32, which rounds to ten bits.

    For results that are compared with those of other devices.
    """
    import keras

    if keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_default_matmul_precision", "highest")
    else:
        import tensorflow as tf

        tf.config.experimental.enable_tensor_float_32_execution(False)


def _gpu_precision():
    """The half precision that the GPU supports: "bfloat16" or "float16"."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        compute_capability = jax.devices()[0].compute_capability
        major_version = int(str(compute_capability).split(".")[0])
    else:
        import tensorflow as tf

        gpu = tf.config.get_visible_devices("GPU")[0]
        device_details = tf.config.experimental.get_device_details(gpu)
        major_version = device_details.get("compute_capability", (0,))[0]
    return "bfloat16" if major_version >= 8 else "float16"  # NVIDIA's Ampere was the first


@contextlib.contextmanager
def hidden_output(descriptor):
    """A context in which everything written to a standard stream is dropped.

    For lines that C++ writes, which do not pass through Python's `sys.stdout` and `sys.stderr`.

    Args:
        descriptor: int, 1 for standard output, 2 for standard error.
    """
    saved_descriptor = os.dup(descriptor)
    null_descriptor = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null_descriptor, descriptor)
        yield
    finally:
        os.dup2(saved_descriptor, descriptor)
        os.close(saved_descriptor)
        os.close(null_descriptor)
