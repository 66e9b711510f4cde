"""The Open Inference Protocol (version 2, REST): what the server and its model say of themselves.

KServe's and Triton's clients speak it, mostly with binary tensors (`deployment.binary_tensors`).
Requests are read in `deployment.infer_request`.
Source: https://github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md.
"""

import json

import numpy as np

from deployment.binary_tensors import EXTENSION, SIZE_PARAMETER
from deployment.infer_request import PHOTOS
from prediction.runtimes import INPUT, OUTPUT


def server_metadata(version):
    """What `GET /v2` answers, a dict.

    Args:
        version: str, of the server's API.
    """
    return {"name": "image-classifier", "version": version, "extensions": [EXTENSION]}


def model_metadata(served_model):
    """What `GET /v2/models/NAME` answers.

    Args:
        served_model: `prediction_service.ServedModel`.

    Returns:
        A dict of name, platform (the runtime), inputs, outputs and parameters. The protocol allows
        text, numbers and booleans as parameters: the class names are a JSON list in a text.

    Example:
        >>> from types import SimpleNamespace
        >>> classifier = SimpleNamespace(class_names=("cat", "dog"), runtime=("onnx", "float32"),
        ...                              preprocessing=SimpleNamespace(size=96))
        >>> served_model = SimpleNamespace(name="animals", classifier=classifier)
        >>> model_metadata(served_model)["outputs"]
        [{'name': 'output_score', 'datatype': 'FP32', 'shape': [-1, 2]}]
    """
    classifier = served_model.classifier
    size, class_names = classifier.preprocessing.size, classifier.class_names
    photos = {"name": PHOTOS, "datatype": "BYTES", "shape": [-1]}
    return {
        "name": served_model.name,
        "platform": (classifier.runtime or ("keras",))[0],
        "inputs": [
            {"name": INPUT, "datatype": "UINT8", "shape": [-1, size, size, 3]},
            {**photos, "parameters": {"content_type": "base64"}},
        ],
        "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, len(class_names)]}],
        "parameters": {
            "description": f"A request has one of the inputs: {INPUT}, RGB pixels, or {PHOTOS}, "
            "image files, in JSON as base64, in binary form as they are. "
            f"{OUTPUT}: the probability of each class.",
            "labels": json.dumps(class_names, ensure_ascii=False),
        },
    }


def infer_response(served_model, given, answers):
    """What `POST /v2/models/NAME/infer` answers.

    Args:
        served_model: `prediction_service.ServedModel`.
        given: `infer_request.InferRequest`, of which id and wanted form count.
        answers: list of `classifier.Answer`.

    Returns:
        (bytes of the body, int, how many of them are JSON: all but those of a binary output).

    Raises:
        ValueError: a probability is NaN, which is a failure of the model and not JSON.
    """
    probabilities = np.stack([answer.probabilities for answer in answers])
    if np.isnan(probabilities).any():
        raise ValueError("a probability is NaN")
    if given.wants_binary:
        binary = probabilities.astype("<f4").tobytes()
        values = {"parameters": {SIZE_PARAMETER: len(binary)}}
    else:
        binary, values = b"", {"data": probabilities.ravel().tolist()}
    scores = {"name": OUTPUT, "shape": list(probabilities.shape), "datatype": "FP32", **values}
    own_id = {} if given.id is None else {"id": given.id}
    response = {"model_name": served_model.name, **own_id, "outputs": [scores]}
    json_part = json.dumps(response, allow_nan=False).encode()
    return json_part + binary, len(json_part)
