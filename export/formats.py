"""Which variants an export consists of, and writing the files that their runtimes open."""

import contextlib
import os
import shutil
import sys
from typing import NamedTuple

from common.console import say
from common.errors import InputError
from export import conversion, graph_preprocessing, quantization, web
from export.browser import find_browser
from export.conversion import named_outputs
from prediction import runtimes
from prediction.runtimes import BYTES, INPUT, OUTPUT, SIMILARITY

OUTPUTS = (OUTPUT, SIMILARITY)
SIGNATURES = ("serving_default", "predict_image")
BYTES_SIGNATURE = "predict_bytes"
SMALLEST = ("int8", "float16", "float32")  # precisions of files, the smallest first
PRECISIONS = {  # value of --quantize -> what is exported
    "none": ("float32",),
    "fp16": ("float16",),
    "int8": ("int8",),
    "bf16": ("float32", "bfloat16"),  # a way to compute what is stored in float32
}


class Variant(NamedTuple):
    """One format of an exported model in one precision.

    Attributes:
        format: str, a key of `runtimes.RUNTIMES`, or "web".
        precision: str, one of that format's.
        requested: bool, whether the export fails without it; else it is only left out.
    """

    format: str
    precision: str
    requested: bool = True

    def __str__(self):
        return f"{self.format} in {self.precision}"


def plan(formats, quantize, named):
    """The variants that the options ask for.

    Args:
        formats: keys of `runtimes.RUNTIMES`, or "web".
        quantize: keys of `PRECISIONS`.
        named: bool, whether the user named the formats; else those that have none of the
            precisions are left out.

    Returns:
        list of `Variant`, all requested, the formats in their order. OpenVINO in int8 is left
        out where this CPU could not verify it.

    Raises:
        InputError: a named format has none of the precisions, no format has one of them, or there
            is no browser for "web".

    Example:
        >>> plan(("onnx",), ("none", "int8"), True)
        [Variant(format='onnx', precision='float32', requested=True),
         Variant(format='onnx', precision='int8', requested=True)]
    """
    precisions = list(dict.fromkeys(part for key in quantize for part in PRECISIONS[key]))
    variants = [
        Variant(name, precision)
        for name in dict.fromkeys(formats)
        for precision in precisions
        if precision in _files(name)
    ]
    _check_formats(formats if named else (), quantize, variants)
    _check_precisions(quantize, variants)
    if "bfloat16" in precisions and not runtimes.has_bfloat16():
        raise InputError(
            "--quantize: bf16: this CPU does not compute in bfloat16, so the result could not be "
            "verified here"
        )
    return _with_one_page(_verifiable(variants))


def _verifiable(variants):
    """Without OpenVINO in int8 where this CPU's sums of it overflow."""
    wrong_variant = Variant("openvino", "int8")
    if wrong_variant not in variants or runtimes.has_openvino_int8():
        return variants
    others = [variant for variant in variants if variant != wrong_variant]
    if not any(variant.precision == "int8" for variant in others):
        raise InputError(
            "--quantize: int8: this CPU has no VNNI, without which sums of 8 bits overflow in "
            "OpenVINO, so the result could not be verified here; --format onnx can"
        )
    say(f"note: {wrong_variant} is left out: this CPU has no VNNI, so its sums overflow")
    return others


def _files(name):
    """dict of precision -> file of a format in the exported folder."""
    return web.FILES if name == web.FORMAT else runtimes.RUNTIMES[name].files


def _with_one_page(variants):
    """A page has the smallest of the precisions, whose ONNX file is proved and stays beside it."""
    pages = [variant for variant in variants if variant.format == web.FORMAT]
    if not pages:
        return variants
    find_browser()
    page = min(pages, key=lambda variant: SMALLEST.index(variant.precision))
    others = [variant for variant in variants if variant.format != web.FORMAT]
    onnx_variant = Variant("onnx", page.precision)
    return [*others, *([] if onnx_variant in others else [onnx_variant]), page]


def _check_formats(named_formats, quantize, variants):
    planned_formats = {variant.format for variant in variants}
    for name in named_formats:
        if name not in planned_formats:
            possible = ", ".join(
                key for key, precisions in PRECISIONS.items() if precisions[-1] in _files(name)
            )
            raise InputError(
                f"--quantize: {','.join(quantize)}: {name} has no such precision; allowed for it: "
                f"{possible}"
            )


def _check_precisions(quantize, variants):
    planned_precisions = {variant.precision for variant in variants}
    for key in quantize:
        precision = PRECISIONS[key][-1]
        if precision not in planned_precisions:
            able = ", ".join(
                name for name, runtime in runtimes.RUNTIMES.items() if precision in runtime.files
            )
            raise InputError(f"--quantize: {key}: needs one of the formats {able}")


def with_bfloat16(variants):
    """Adds OpenVINO in bfloat16, not requested, where it costs nothing but a check.

    It needs no file of its own beside float32, and a CPU that computes in it.

    Args:
        variants: list of `Variant`.

    Returns:
        list of `Variant`; the new one comes after those of its format.
    """
    own = [variant for variant in variants if variant.format == "openvino"]
    precisions = [variant.precision for variant in own]
    if "float32" not in precisions or "bfloat16" in precisions or not runtimes.has_bfloat16():
        return variants
    position = variants.index(own[-1]) + 1
    extra_variant = Variant("openvino", "bfloat16", requested=False)
    return [*variants[:position], extra_variant, *variants[position:]]


def write(model, variants, folder, preprocessing, calibration_images):
    """Writes the files that the variants need into a folder, but for the page of "web".

    Args:
        model: a Keras model, uint8 (N, S, S, 3) to float32 (N, C), or to that and float32 (N, 1).
        variants: list of `Variant`; with "web" there is "onnx" in the same precision.
        folder: str, an existing folder.
        preprocessing: `geometry.Preprocessing` of the model.
        calibration_images: uint8 (N, S, S, 3), typical images, for int8.

    Raises:
        RunError: a format does not support an operation of the model.
    """
    formats = {variant.format for variant in variants}
    file_names = {
        runtimes.RUNTIMES[variant.format].files[variant.precision]
        for variant in variants
        if variant.format != web.FORMAT
    }
    scratch_folder = os.path.join(folder, "scratch")  # for files that others are made from
    os.mkdir(scratch_folder)
    onnx_folder = folder if "model.onnx" in file_names else scratch_folder
    onnx_path = os.path.join(onnx_folder, "model.onnx")
    saved_model = folder if "savedmodel" in formats else scratch_folder
    if formats & {"savedmodel", "litert"}:
        _write_saved_model(model, saved_model, preprocessing)
    if formats & {"onnx", "openvino"}:
        conversion.to_onnx(model, onnx_path, INPUT, OUTPUTS)
    images = calibration_images
    writers = {
        "model.xml": lambda path: conversion.to_openvino(onnx_path, path),
        "model.float16.onnx": lambda path: quantization.to_float16(onnx_path, path),
        "model.int8.onnx": lambda path: quantization.to_int8(onnx_path, path, INPUT, images),
        "model.tflite": lambda path: quantization.to_litert(saved_model, path),
        "model.float16.tflite": lambda path: quantization.to_litert(saved_model, path, "float16"),
        "model.int8.tflite": lambda path: quantization.to_litert(saved_model, path, "int8", images),
    }
    for file_name in sorted(file_names & set(writers)):
        writers[file_name](os.path.join(folder, file_name))
    shutil.rmtree(scratch_folder)


def _write_saved_model(model, folder, preprocessing):
    import keras
    import tensorflow as tf

    archive = keras.export.ExportArchive()
    archive.track(model)
    size = preprocessing.size
    image_signature = [tf.TensorSpec((None, size, size, 3), tf.uint8, name=INPUT)]
    for signature_name in SIGNATURES:
        archive.add_endpoint(
            signature_name, lambda images: named_outputs(model, images, OUTPUTS), image_signature
        )

    def predict_bytes(contents):
        images = tf.map_fn(
            lambda content: graph_preprocessing.decode(content, preprocessing),
            contents,
            fn_output_signature=tf.TensorSpec((size, size, 3), tf.uint8),
        )
        return named_outputs(model, images, OUTPUTS)

    bytes_signature = [tf.TensorSpec((None,), tf.string, name=BYTES)]
    archive.add_endpoint(BYTES_SIGNATURE, predict_bytes, bytes_signature)
    with contextlib.redirect_stdout(sys.stderr):  # standard output is for the result
        archive.write_out(folder, verbose=False)
