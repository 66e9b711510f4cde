"""Every file of an exported model that a runtime opens, from one Keras model."""

import contextlib
import os
import shutil
import sys

from common.errors import InputError
from export import conversion, graph_preprocessing, quantization
from prediction import runtimes
from prediction.runtimes import BYTES, INPUT, OUTPUT

SIGNATURES = ("serving_default", "predict_image")
BYTES_SIGNATURE = "predict_bytes"
PRECISIONS = {
    "none": ("float32",),
    "fp16": ("float16",),
    "int8": ("int8",),
    "bf16": ("float32", "bfloat16"),  # a way to compute what is stored in float32
}


def plan(formats, quantize, named):
    """Which precisions each format is asked for.

    Args:
        formats: keys of `runtimes.RUNTIMES`.
        quantize: keys of `PRECISIONS`.
        named: whether the user named the formats; else those that cannot do it are left out.

    Returns:
        dict of format -> tuple of precisions.

    Raises:
        InputError: a format can do none of it, or none can do one.
    """
    asked = list(dict.fromkeys(each for key in quantize for each in PRECISIONS[key]))
    found = {
        name: tuple(each for each in asked if each in runtimes.RUNTIMES[name].files)
        for name in formats
    }
    unable = [name for name in found if not found[name]]
    if unable and named:
        known = ", ".join(
            key
            for key, each in PRECISIONS.items()
            if each[-1] in runtimes.RUNTIMES[unable[0]].files
        )
        raise InputError(
            f"--quantize: {','.join(quantize)}: {unable[0]} has no such form; it has {known}"
        )
    for key in quantize:
        precision = PRECISIONS[key][-1]
        if not any(precision in each for each in found.values()):
            able = ", ".join(
                name for name, runtime in runtimes.RUNTIMES.items() if precision in runtime.files
            )
            raise InputError(f"--quantize: {key}: needs one of the formats {able}")
    if "bfloat16" in asked and not runtimes.has_bfloat16():
        raise InputError(
            "--quantize: bf16: this processor does not compute in bfloat16, so it cannot be "
            "proved here"
        )
    return {name: each for name, each in found.items() if each}


def write(model, wanted, folder, preprocessing, images):
    """Writes the files that the formats need into a folder.

    Args:
        model: a Keras model, uint8 (N, S, S, 3) to (N, C).
        wanted: as `plan` gives it.
        folder: the folder, which is there.
        preprocessing: `geometry.Preprocessing` of the model.
        images: uint8 (N, S, S, 3), typical ones, for int8.

    Raises:
        RunError: a format lacks an operation.
    """
    files = {
        runtimes.RUNTIMES[name].files[precision]
        for name, precisions in wanted.items()
        for precision in precisions
    }
    scratch = os.path.join(folder, "scratch")
    os.mkdir(scratch)
    in_folder = os.path.join(folder, "model.onnx")
    onnx = in_folder if "model.onnx" in files else os.path.join(scratch, "model.onnx")
    saved = folder if "savedmodel" in wanted else scratch
    if {"savedmodel", "litert"} & set(wanted):
        _write_saved_model(model, saved, preprocessing)
    if {"onnx", "openvino"} & set(wanted):
        conversion.to_onnx(model, onnx, INPUT, OUTPUT)
    makers = {
        "model.xml": lambda path: conversion.to_openvino(onnx, path),
        "model.float16.onnx": lambda path: quantization.to_float16(onnx, path),
        "model.int8.onnx": lambda path: quantization.to_int8(onnx, path, INPUT, images),
        "model.tflite": lambda path: quantization.to_litert(saved, path),
        "model.float16.tflite": lambda path: quantization.to_litert(saved, path, "float16"),
        "model.int8.tflite": lambda path: quantization.to_litert(saved, path, "int8", images),
    }
    for name in sorted(files & set(makers)):
        makers[name](os.path.join(folder, name))
    shutil.rmtree(scratch)


def _write_saved_model(model, folder, preprocessing):
    import keras
    import tensorflow as tf

    archive = keras.export.ExportArchive()
    archive.track(model)
    size = preprocessing.size
    signature = [tf.TensorSpec((None, size, size, 3), tf.uint8, name=INPUT)]
    for name in SIGNATURES:
        archive.add_endpoint(name, lambda x: {OUTPUT: model(x, training=False)}, signature)

    def from_bytes(data):
        images = tf.map_fn(
            lambda each: graph_preprocessing.decode(each, preprocessing),
            data,
            fn_output_signature=tf.TensorSpec((size, size, 3), tf.uint8),
        )
        return {OUTPUT: model(images, training=False)}

    archive.add_endpoint(
        BYTES_SIGNATURE, from_bytes, [tf.TensorSpec((None,), tf.string, name=BYTES)]
    )
    with contextlib.redirect_stdout(sys.stderr):  # standard output is for the result
        archive.write_out(folder, verbose=False)
