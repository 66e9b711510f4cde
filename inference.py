"""Predicts the classes of images with a run or an exported model.

from inference import Classifier

classifier = Classifier.load("save_h5_model/demo")
print(classifier.classify(["photo.jpg"]))
"""

from tqdm import tqdm

from common.console import say, show
from common.errors import ImageError, raise_first
from common.files import check_writable
from common.tables import write_table
from common.write_errors import write_error
from config import parser
from config.mode_options import PredictOptions
from data.image_files import find_images
from prediction.classifier import TOP_K, Classifier, check_top_k, known_labels
from runs import run_folder


def main(options: PredictOptions):
    """`--mode predict`."""
    image_paths = find_images(options.image)
    check_writable(options.csv, "--csv")
    path = run_folder.find(options.run, options.save_dir)
    top_k = check_top_k(options.top_k, len(known_labels(path)), TOP_K)
    classifier = Classifier.load(path, runtime=options.runtime, allow_low_precision=True)
    classifier.set_views(options.tta)
    answers = classifier.stream(image_paths, options.batch_size, options.workers)
    results, errors = _collect(classifier, answers, len(image_paths), top_k)
    if options.csv:
        _write_csv(options.csv, results, top_k, classifier.calibration is not None)
    show(results, _text, options.json)
    if options.strict or len(errors) == len(image_paths):
        raise_first(errors, len(image_paths))
    for error in errors:
        say(f"no answer for {error}")


def _collect(classifier, answers, count, top_k):
    """(list of dict, one per image as `--json` shows it, list of ImageError), with a bar."""
    results, errors = [], []
    progress_bar = tqdm(answers, "predicting", count, unit=" images", leave=False, disable=None)
    for image_path, answer in progress_bar:
        result = {"image": image_path}
        if isinstance(answer, ImageError):
            errors.append(answer)
            result["error"] = answer.reason
        else:
            result.update(classifier.describe(answer, top_k))
        results.append(result)
    return results, errors


def _text(results):
    lines = []
    for result in results:
        if "error" in result:
            lines.append(f"{result['image']}: {result['error']}")
            continue
        lines.append(result["image"])
        if result.get("unknown"):
            lines.append(f"  unknown: {result['reason']}")
        label_width = max(len(prediction["label"]) for prediction in result["predictions"])
        lines += [
            f"  {prediction['probability']:7.2%}  {prediction['label']:<{label_width}}  "
            f"(class {prediction['id']})"
            for prediction in result["predictions"]
        ]
    return "\n".join(lines)


def _write_csv(csv_path, results, top_k, calibrated):
    """Writes one row per image: its most probable classes, or why it cannot be decoded."""
    answer_columns = [
        f"{name}_{rank}" for rank in range(1, top_k + 1) for name in ("label", "probability")
    ]
    unknown_columns = ["unknown", "reason"] if calibrated else []
    rows = []
    for result in results:
        cells = [""] * len(answer_columns)
        if "predictions" in result:
            cells = [
                prediction[key]
                for prediction in result["predictions"]
                for key in ("label", "probability")
            ]
        if calibrated:
            is_unknown = parser.show(result["unknown"]) if "unknown" in result else ""
            cells = [is_unknown, result.get("reason", ""), *cells]
        rows.append([result["image"], *cells, result.get("error", "")])
    try:
        write_table(csv_path, ["image", *unknown_columns, *answer_columns, "error"], rows)
    except OSError as error:
        raise write_error(error, csv_path, "--csv") from None
    say(f"written: {csv_path}")
