"""From a folder of photos to a measured, exported model in one command.

Each step is the mode that does it: audit, train, eval, report, export. A command that was stopped
goes on where it was when it is given again: the training in its epoch, what is done not anew.
"""

import contextlib
import importlib
import io
import json
import os

import numpy as np

from common import output_places
from common.commands import command_line
from common.console import say, show
from common.file_names import replace_forbidden
from common.files import checksum
from config import parser
from config.mode_options import AllOptions
from config.modes import MODES
from data import parts
from data.labelled_data import read_labelled
from data.parts import PARTS
from data.several_places import paths_of
from evaluation.label_errors import cannot_judge
from prediction.exported_model import read_description
from runs import run_folder
from runs.margin_files import read_hashes, read_margins

HARDEST = 3  # classes that the summary names
FORMATS = "onnx,openvino"  # what the server computes with on a processor


def main(options: AllOptions):
    """`--mode all`."""
    result = run_all(options)
    show(result, _text, options.json)


def run_all(options):
    """Looks the photos over, trains, measures and exports.

    Args:
        options: `AllOptions`.

    Returns:
        dict: run (its path), audit, eval, report and export (what these modes give with
        `--json`; audit is None where it was done before), part (of the data that was measured
        on) and next (the command to serve it).

    Raises:
        InputError, RunError: a step failed.
    """
    _check_name(options)
    samples, class_names, _ = read_labelled(options.data, rule=options.group)
    assignment = parts.update(
        options.data, samples, workers=options.workers, rule=options.group, class_names=class_names
    )
    parts.describe_gaps(assignment, samples.class_ids, class_names)
    name = _find_name(options, samples, assignment)
    place = ("--run", name, "--save_dir", options.save_dir)
    audit = _audit(options, name)
    _train(options, name)
    # With few photos there may be none to test on.
    part = "test" if (assignment.parts == PARTS.index("test")).any() else "val"
    measured_on = ("--data", options.data, "--part", part)
    record = ("--record", "test") if part == "test" else ()  # val_accuracy is there already
    result = {
        "run": os.path.join(options.save_dir, name),
        "part": part,
        "audit": audit,
        "eval": _run("eval", "measuring", *place, *measured_on, *record),
        "report": _run("report", "writing the report", *place, *measured_on, *_language(options)),
        "export": _export(place, os.path.join(options.save_dir, name)),
    }
    model = () if options.save_dir == parser.parse("serve", []).save_dir else place[2:]
    return {**result, "next": command_line("serve", "--model", name, *model)}


def base_name(options):
    """str, a run's name before a number: --run, or that of the data.

    Args:
        options: the options of a mode, with `run` and `data`.
    """
    if options.run:
        return options.run
    name = os.path.basename(os.path.abspath(options.data))
    if os.path.isfile(options.data):
        name = os.path.splitext(name)[0]
    return replace_forbidden(name)[:60].strip(". ") or "photos"


def _check_name(options):
    parser.parse("train", ["--run", base_name(options)])  # refused before the work begins


def _find_name(options, samples, assignment):
    """The run's name, with a number where such a run has learned otherwise."""
    base = name = base_name(options)
    number = 2
    while os.path.exists(os.path.join(options.save_dir, name)):
        run_path = os.path.join(options.save_dir, name)
        difference = _difference(run_path, options, samples, assignment)
        if not difference:
            break
        say(f"note: {run_path} {difference}; another run is made")
        name, number = f"{base}-{number}", number + 1
    return name


def _difference(run_path, options, samples, assignment):
    """What a run differs in from what is asked for: str, "" where it is that run."""
    if not os.path.exists(os.path.join(run_path, run_folder.OPTIONS)):
        return "is no run"
    stored = run_folder.read(run_path, weights=None).options
    for option_name in ("backbone", "weights", "minutes"):
        is_asked = option_name in options.given
        if is_asked and getattr(stored, option_name) != getattr(options, option_name):
            return f"has another --{option_name}"
    learned = {(path, class_id) for path, (_, class_id) in read_margins(run_path)[0].items()}
    folder = os.path.realpath(samples.folder)
    is_training = assignment.parts == PARTS.index("train")
    wanted = {
        (os.path.join(folder, samples.file_names[position]), samples.class_ids[position])
        for position in np.flatnonzero(is_training)
    }
    learns_from = [os.path.realpath(path) for path in paths_of(stored.train_data)]
    if not learned and learns_from != [os.path.realpath(options.data)]:
        return "is to learn other photos"
    validated = read_hashes(run_path)[1]
    is_validation = assignment.parts == PARTS.index("val")
    wanted_hashes = {int(assignment.contents[n], 16) for n in np.flatnonzero(is_validation)}
    if learned and (learned != wanted or validated != wanted_hashes):  # else it has hardly begun
        return "has learned other photos or labels"
    return ""


def _audit(options, name):
    default_folder = os.path.join(options.save_dir, f"{name}-audit")
    place = output_places.choose(default_folder, source=options.data)
    if os.path.exists(place.path):
        say(f"note: {place.path} is there; delete it to look the photos over again")
        return None
    result = _run(
        *("audit", "looking the photos over", "--source", options.data, "--target", place.path),
        *("--workers", str(options.workers), *_language(options)),
    )
    place.record()
    return result


def _language(options):
    """The words that give the pages the language asked for."""
    return ("--lang", options.lang) if options.lang else ()


def _train(options, name):
    run_path = os.path.join(options.save_dir, name)
    place = ("--save_dir", options.save_dir, "--log_dir", options.log_dir)
    if os.path.exists(os.path.join(run_path, run_folder.CHECK, run_folder.CHECK_FILE)):
        say(f"note: {run_path} is trained already; delete it to train anew")
        return
    if os.path.exists(os.path.join(run_path, run_folder.OPTIONS)):
        _run("train", "going on with the training", "--resume", name, *place)
        return
    words = ("--data", options.data, "--backbone", options.backbone, "--run", name, *place)
    words = (*words, "--weights", options.weights)
    minutes = ("--minutes", str(options.minutes)) if options.minutes else ()
    _run("train", "training", *words, *minutes, "--workers", str(options.workers))


def _export(place, run_path):
    model_path = os.path.join(run_path, run_folder.MODEL)
    weights = checksum(os.path.join(run_path, run_folder.BEST))
    if run_folder.is_exported(model_path):
        description = read_description(model_path)
        if description.get("weights") == weights:
            say(f"note: {model_path} is exported already")
            return {"model": model_path, "formats": description.get("formats")}
    return _run("export", "exporting", *place, "--format", FORMATS)


def _run(mode, heading, *words):
    """Runs a mode in this process; what it gives with `--json`."""
    say(f"\n== {heading}: {command_line(mode, *words)}")
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        importlib.import_module(MODES[mode].module).main(parser.parse(mode, [*words, "--json"]))
    lines = output.getvalue().strip().splitlines()
    return json.loads(lines[-1]) if lines else None


def _text(result):
    evaluation = result["eval"]
    count, accuracy = evaluation["images"], evaluation["accuracy"]
    low, high = evaluation["accuracy_interval"]
    classes = evaluation["classes"]
    largest = max(classes, key=lambda row: row["images"])
    kept_for = {"test": "kept for the test", "val": "that validate, since none are left to test on"}
    lines = [
        "",
        f"{round(accuracy * count)} of the {count} photos {kept_for[result['part']]} get the right "
        f"class: {accuracy:.1%}.",
        f"With other photos of this kind it would be between {low:.0%} and {high:.0%} "
        "(95 % interval); more photos to test on make it narrower.",
        f"Always answering {largest['label']!r} would be right for "
        f"{largest['images'] / count:.1%}.",
        *_hardest(classes),
        "",
        *_to_look_at(result),
        "",
        f"the run             {result['run']}",
        f"the exported model  {result['export']['model']}",
        f"serve it            {result['next']}",
    ]
    return "\n".join(lines)


def _hardest(classes):
    hard = sorted((row for row in classes if row["images"]), key=lambda row: row["recall"])
    hard = [row for row in hard[:HARDEST] if row["recall"] < 1]
    if not hard:
        return ["No class has an error."]
    rows = (
        f"{row['label']} ({round(row['recall'] * row['images'])} of {row['images']})"
        for row in hard
    )
    return [f"Hardest, with what was right of them: {', '.join(rows)}."]


def _to_look_at(result):
    lines, audit = [], result["audit"]
    if audit and (audit["errors"] or audit["warnings"]):
        lines.append(
            f"The photos have {audit['errors']} errors and {audit['warnings']} warnings: "
            f"{audit['page']}"
        )
    suspects, doubtful = result["report"]["suspects"], ""
    if suspects and not cannot_judge(result["eval"]["accuracy"]):
        doubtful = f", {suspects} labels that look wrong among them"
    lines.append(f"Errors with what the model looked at{doubtful}: {result['report']['html']}")
    return lines
