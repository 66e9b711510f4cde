"""An exported model, or a run, as an object: images in, labels and probabilities out."""

import csv
import json
import os
import sys

from tqdm import tqdm

from common.errors import ImageError, InputError
from common.files import replacing
from config.parser import show
from data.image_files import find_images
from prediction.classifier import TOP_K, Classifier, check_top_k, known_labels
from runs import run_folder


def main(options):
    """`--mode predict`."""
    paths = find_images(options.image)
    check_csv(options.csv)
    path = run_folder.find(options.run, options.save_dir)
    count = check_top_k(options.top_k, len(known_labels(path)), TOP_K)
    classifier = Classifier.load(path, runtime=options.runtime, allow_low_precision=True)
    classifier.set_views(options.tta)
    results, failed = [], []
    answers = classifier.stream(paths, options.batch_size, options.workers)
    bar = tqdm(answers, "predicting", len(paths), unit=" images", leave=False, disable=None)
    for path, answer in bar:
        if isinstance(answer, ImageError):
            failed.append(answer)
            results.append({"image": path, "error": answer.reason})
        else:
            known = {}
            if classifier.calibration:
                known["unknown"] = classifier.unknown(answer)
            results.append({"image": path, **known, "predictions": classifier.top(answer, count)})
    if options.csv:
        _write_csv(options.csv, results, count, classifier.calibration is not None)
    if options.json:
        print(json.dumps(results, ensure_ascii=False))
    else:
        print(_table(results))
    if failed:
        more = f"; {len(failed)} of {len(paths)} images failed" if len(failed) > 1 else ""
        raise InputError(f"{failed[0]}{more}")


def check_csv(path):
    """Refuses a CSV that could not be written, before the work and not after it."""
    if path is None:
        return
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise InputError(f"--csv: {path}: there is no folder {folder}")
    if os.path.exists(path) and not os.path.isfile(path):
        raise InputError(f"--csv: {path} is not a file that could be replaced")


def _table(results):
    lines = []
    for result in results:
        if "error" in result:
            lines.append(f"{result['image']}: {result['error']}")
            continue
        lines.append(result["image"])
        if result.get("unknown"):
            lines.append("  unknown")
        width = max(len(each["label"]) for each in result["predictions"])
        lines += [
            f"  {each['probability']:7.2%}  {each['label']:<{width}}  (class {each['id']})"
            for each in result["predictions"]
        ]
    return "\n".join(lines)


def _write_csv(path, results, count, calibrated):
    try:
        with (
            replacing(path) as partial,
            open(partial, "w", encoding="utf-8", errors="surrogateescape", newline="") as file,
        ):
            writer = csv.writer(file)
            places = range(1, count + 1)
            columns = [f"{name}_{k}" for k in places for name in ("label", "probability")]
            unknown = ["unknown"] if calibrated else []
            writer.writerow(["image", *unknown, *columns, "error"])
            for result in results:
                cells = [""] * len(columns)
                if "predictions" in result:
                    cells = [
                        cell
                        for each in result["predictions"]
                        for cell in (each["label"], each["probability"])
                    ]
                if calibrated:
                    cells = [show(result["unknown"]) if "unknown" in result else "", *cells]
                writer.writerow([result["image"], *cells, result.get("error", "")])
    except OSError as error:
        raise InputError(f"--csv: {path} cannot be written: {error.strerror}") from None
    print(f"written: {path}", file=sys.stderr)
