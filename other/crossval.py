"""Cross-validation: a training measured on every photo, each by a model that has not seen it.

Every fold is an ordinary run. The same command goes on after an interruption. Where the head alone
is trained, all photos go through the network once for all folds.
"""

import functools
import os

from common import console
from common.baseline import no_better
from config.mode_options import CrossvalOptions
from other.folds import exporting, outputs, runs, scores
from other.folds.plan import ANSWERS, DOUBTFUL, PAGE, make_plan
from other.folds.tracking import send_folds
from runs.tracking import deliver, open_asked


def main(options: CrossvalOptions):
    """`--mode crossval`.

    Returns:
        dict, what `--json` prints.
    """
    runs.check_options(options)
    store = open_asked(options.track, os.path.join(options.save_dir, "folds"))
    plan = make_plan(options)
    runs.train_folds(plan, options)
    out_of_fold = runs.answer(plan, options)
    suspects = scores.find_doubtful(plan, out_of_fold, options.data)
    result = {
        "name": plan.name,
        "runs": [os.path.join(options.save_dir, fold.run_name) for fold in plan.folds],
        **scores.measure_folds(plan, out_of_fold),
        "calibration": scores.calibrate(plan, out_of_fold),
        "suspects": len(suspects),
        "undecodable": [str(error) for error in out_of_fold.errors.values()],
        "page": plan.file(PAGE),
        "csv": plan.file(ANSWERS),
        "doubtful": plan.file(DOUBTFUL),
    }
    result["export"] = exporting.export(plan, out_of_fold, result, options)
    outputs.write(plan, out_of_fold, suspects, result, options)
    if store:
        transfer = functools.partial(send_folds, store, plan, result, options)
        result["tracking"] = deliver(store, transfer)
    class_ids, accuracy = plan.samples.class_ids, result["accuracy"]["value"]
    if note := no_better(class_ids, plan.class_names, accuracy):
        console.say(f"note: {note}")
    console.show(result, _text, options.json)
    return result


def _text(result):
    accuracy, (low, high) = result["accuracy"], result["folds_interval"]
    seeds = f" with {result['seeds']} seeds" if result["seeds"] > 1 else ""
    by_fold = ", ".join(f"{value:.4f}" for row in result["fold_accuracies"] for value in row)
    width = max(5, *(len(row["label"]) for row in result["classes"]))
    lines = [
        f"images {result['images']}   groups {result['groups']}   folds {result['folds']}{seeds}",
        f"accuracy {accuracy['value']:.4f} (95 % interval {accuracy['low']:.4f} to "
        f"{accuracy['high']:.4f}, over photos and folds)",
        f"by fold  {by_fold} (interval by their differences alone {low:.4f} to {high:.4f})",
        "",
        f"{'class':<{width}}  images  groups  precision  recall  95 % interval        f1",
        *(_class_line(row, width) for row in result["classes"]),
        "",
        *_calibration_lines(result["calibration"]),
        f"labels that are probably wrong  {result['suspects']}: {result['doubtful']}",
        *(f"counted as wrong: {problem}" for problem in result["undecodable"]),
        f"one row per photo  {result['csv']}",
        f"page               {result['page']}",
    ]
    if result["export"]:
        lines.append(f"exported model     {result['export']['model']}")
    return "\n".join(lines)


def _class_line(row, width):
    precision, recall = row["precision"], row["recall"]
    interval = f"{recall['low']:.4f} to {recall['high']:.4f}" if recall else ""
    values = (
        "" if value is None else f"{value:.4f}"
        for value in (precision and precision["value"], recall and recall["value"], row["f1"])
    )
    precision_text, recall_text, f1_text = values
    return (
        f"{row['label']:<{width}}  {row['images']:>6}  {row['groups']:>6}  {precision_text:>9}  "
        f"{recall_text:>6}  {interval:<16}  {f1_text:>6}"
    )


def _calibration_lines(fitted):
    likelihood, error = fitted["negative_log_likelihood"], fitted["expected_calibration_error"]
    return [
        f"temperature {fitted['temperature']:.4f}, fitted out of fold: expected calibration error "
        f"{error['before']:.4f} before, {error['after']:.4f} after; negative log-likelihood "
        f"{likelihood['before']:.4f}, {likelihood['after']:.4f}"
    ]
