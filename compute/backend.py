"""Imports Keras on its backend, quietly; it takes seconds, so only when it is needed."""

import contextlib
import importlib.util
import os
import sys

from common.errors import InputError
from compute.keras_patches import remember_skipped_attributes


def import_keras(backend=None):
    """Imports and returns Keras; call it before anything that imports Keras by itself.

    TensorFlow greets with a page of notes before its own log level counts. They are
    kept off standard error unless TF_CPP_MIN_LOG_LEVEL asks for more, as --debug does.

    Args:
        backend: "tensorflow" or "jax"; None is what KERAS_BACKEND says, else TensorFlow.
            Of no effect where Keras is imported already.

    Raises:
        InputError: the backend is not installed.
    """
    # A ~/.keras/keras.json of another project must not choose the backend.
    if backend is not None and "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = backend
    if os.environ.setdefault("KERAS_BACKEND", "tensorflow") == "jax":
        check_jax()
    quiet = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "3"
    with hidden(2) if quiet else contextlib.nullcontext():
        import keras

        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf  # the rest of its greeting comes here

            for gpu in tf.config.list_physical_devices("GPU"):
                # Takes what it needs, not the whole memory.
                with contextlib.suppress(RuntimeError):  # when it computes already
                    tf.config.experimental.set_memory_growth(gpu, True)
        elif importlib.util.find_spec("tensorflow"):
            # Keras imports it with any backend, to set its seed; it must not take the GPUs.
            import tensorflow as tf

            tf.config.set_visible_devices([], "GPU")
    remember_skipped_attributes()
    return keras


def check_jax():
    """Refuses where JAX is not installed; call it before JAX is imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # JAX would set a lower one
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # memory as it is needed
    if importlib.util.find_spec("jax") is None:
        raise InputError(
            "--backend: jax is not installed; .venv/bin/python -m pip install -r "
            "requirements/jax.txt brings it"
        )


def has_gpu():
    """Whether Keras computes on a GPU; Keras has to be imported already."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        return jax.default_backend() == "gpu"
    import tensorflow as tf

    return bool(tf.config.get_visible_devices("GPU"))


def use_precision(name, float16=True):
    """Sets what layers compute in; their weights stay float32.

    Args:
        name: "float32", "bfloat16", "float16", or "auto": float32 on a processor, where
            half precision is slower, bfloat16 on a GPU that has it, float16 on older ones.
        float16: whether "auto" may choose it; else older GPUs compute in float32.
    """
    import keras

    if name == "auto":
        name = _gpu_precision() if has_gpu() else "float32"
        if name == "float16" and not float16:
            name = "float32"
    keras.config.set_dtype_policy(name if name == "float32" else f"mixed_{name}")


def exact_float32():
    """Lets a GPU multiply in float32 and not in TF32, which rounds to ten bits.

    For what is compared with other devices.
    """
    import keras

    if keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_default_matmul_precision", "highest")
    else:
        import tensorflow as tf

        tf.config.experimental.enable_tensor_float_32_execution(False)


def _gpu_precision():
    import keras

    if keras.backend.backend() == "jax":
        import jax

        capability = jax.devices()[0].compute_capability
        major = int(str(capability).split(".")[0])
    else:
        import tensorflow as tf

        gpu = tf.config.get_visible_devices("GPU")[0]
        major = tf.config.experimental.get_device_details(gpu).get("compute_capability", (0,))[0]
    return "bfloat16" if major >= 8 else "float16"  # NVIDIA's Ampere was the first


@contextlib.contextmanager
def hidden(descriptor):
    """A context in which what is written to standard output (1) or error (2) goes nowhere.

    For notes that come from C++, which Python's `sys.stdout` and `sys.stderr` know nothing of.
    """
    saved = os.dup(descriptor)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, descriptor)
        yield
    finally:
        os.dup2(saved, descriptor)
        os.close(saved)
        os.close(nowhere)
