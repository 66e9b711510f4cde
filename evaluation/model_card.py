"""The model card of an exported model: README.md beside model.json, as model hubs have it.

What the model is for, what it was trained and measured on, and what it does not know (Mitchell et
al. 2019, "Model Cards for Model Reporting"). The front matter is that of the Hugging Face hub.
"""

import os

import yaml

from common.files import write_text
from evaluation import intervals

NAME = "README.md"
LIMITS, ORIGIN = "## What it does not know\n\n", "## How it was made\n\n"
NOTES = "## Notes\n"  # what a person writes below it is kept by the next export
NO_NOTES = "Who made it, what it may be used for, under which licence.\n"
CROSSVAL = "crossval"
PARTS = {
    "test": "test photos, which neither trained nor chose it",
    CROSSVAL: "photos, each judged by a model of the cross-validation that had not seen it",
    "val": "validation photos",
}


def write_card(model_folder, card, earlier_folder=None):
    """Writes the card; notes in an earlier one are kept.

    Args:
        model_folder: str, the folder of the exported model.
        card: str, from `model_card`.
        earlier_folder: str, the export that this one replaces, or None.
    """
    notes = NO_NOTES
    try:
        with open(os.path.join(earlier_folder or model_folder, NAME), encoding="utf-8") as file:
            notes = file.read().partition(NOTES)[2].lstrip("\n") or NO_NOTES
    except (OSError, UnicodeDecodeError):
        pass
    write_text(os.path.join(model_folder, NAME), f"{card}\n{NOTES}\n{notes}")


def model_card(description, metrics, initial_weights, slices=None):
    """The text of a card, without its notes.

    Args:
        description: dict, the content of model.json.
        metrics: dict, the content of the run's metrics.json; empty where there is none.
        initial_weights: str, what the training started from.
        slices: dict, from `slices_file.read_slices`, or None.

    Returns:
        str, Markdown.

    Example:

    ```python
    write_card("model", model_card(description, metrics, "imagenet"))
    ```
    """
    scores = _scores(metrics)
    front_matter = {
        "library_name": "keras",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", description["backbone"]],
        "model-index": [{"name": description["run"], "results": _results(scores)}],
    }
    sections = [
        "---\n" + yaml.safe_dump(front_matter, sort_keys=False, allow_unicode=True) + "---\n",
        f"# {_plain(description['run'])}\n",
        _purpose(description),
        "## Data\n\n" + _data(description, metrics),
        "## Scores\n\n" + _score_table(scores) + _soup(metrics),
        *(["## Slices\n\n" + _slices(slices)] if slices else []),
        LIMITS + _limits(description),
        ORIGIN + _origin(description, initial_weights),
    ]
    return "\n".join(sections)


def update_limits(model_folder, description):
    """Says in a card what a model does not know after it was calibrated; the rest stays.

    Args:
        model_folder: str, the folder of the exported model; nothing is done without a card.
        description: dict, the content of model.json.
    """
    path = os.path.join(model_folder, NAME)
    try:
        with open(path, encoding="utf-8") as file:
            card = file.read()
    except (OSError, UnicodeDecodeError):
        return
    before, heading, rest = card.partition(LIMITS)
    if heading and ORIGIN in rest:
        after = rest[rest.index(ORIGIN) :]
        write_text(path, f"{before}{heading}{_limits(description)}\n{after}")


def _scores(metrics):
    """List of (part, images, name, value, interval or None), the best judges first."""
    scores = []
    for part in PARTS:
        if part == "val" and _is_cross_validated(metrics):
            continue  # it may have learned them
        image_count = metrics.get(f"{part}_images")
        for name in ("accuracy", "macro_precision", "macro_recall", "macro_f1"):
            value = metrics.get(f"{part}_{name}")
            if value is None:
                continue
            is_fraction = name == "accuracy" and image_count
            interval = is_fraction and intervals.proportion(round(value * image_count), image_count)
            interval = metrics.get(f"{part}_{name}_interval", interval)
            scores.append((part, image_count, name, value, interval or None))
    return scores


def _is_cross_validated(metrics):
    """Whether a model learned from all photos, so that only its siblings could be measured."""
    return f"{CROSSVAL}_images" in metrics


def _results(scores):
    """The scores as the hub's `model-index` has them."""
    results = []
    for part in PARTS:
        own = [score for score in scores if score[0] == part]
        if own:
            results.append(
                {
                    "task": {"type": "image-classification"},
                    "dataset": {"name": f"own photos, {part}", "type": "image-folder"},
                    "metrics": [
                        {"type": name, "value": round(float(value), 6)}
                        for _, _, name, value, _ in own
                    ],
                }
            )
    return results


def _purpose(description):
    class_names = description["labels"]
    preprocessing = description["preprocessing"]
    names = ", ".join(map(_plain, class_names))
    return (
        f"Says which of {len(class_names)} classes a photo shows: {names}.\n\n"
        f"The network is {description['backbone']}; it takes photos of "
        f"{preprocessing['size']} x {preprocessing['size']} pixels ({preprocessing['resize']}), "
        "RGB, 0 to 255. `model.json` has everything that is needed to prepare them; "
        "`run.py predict --run FOLDER --image PHOTO` and `run.py serve --model FOLDER` do it.\n"
    )


def _plain(name):
    """A name that Markdown shows as it is, in a table as well."""
    return name.replace("|", "\\|").replace("<", "&lt;")


def _data(description, metrics):
    if _is_cross_validated(metrics):
        return f"Trained on {metrics['train_images']:,} photos, measured by cross-validation.\n"
    lines = []
    if "train_images" in metrics:
        lines.append(
            f"Trained on {metrics['train_images']:,} photos, validated on "
            f"{metrics.get('val_images', 0):,}.\n"
        )
    if "teacher" in metrics:
        unlabelled = metrics.get("unlabelled_images")
        more = f" and, in place of labels, for {unlabelled:,} more photos" if unlabelled else ""
        lines.append(f"A larger model's probabilities were learned beside the labels{more}.\n")
    counts = metrics.get("val_class_images")
    if counts and len(counts) == len(description["labels"]):
        lines.append("| class | validation photos |\n| --- | ---: |")
        lines += [
            f"| {_plain(name)} | {count:,} |" for name, count in zip(description["labels"], counts)
        ]
        lines.append("")
    return "\n".join(lines) or "Nothing is known of it.\n"


def _score_table(scores):
    if not scores:
        return "Not measured.\n"
    lines = ["| score | photos | value | 95 % interval |", "| --- | --- | ---: | --- |"]
    for part, image_count, name, value, interval in scores:
        known = f"{image_count:,} {PARTS[part]}" if image_count else PARTS[part]
        limits = f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else ""
        lines.append(f"| {name.replace('_', ' ')} | {known} | {value:.3f} | {limits} |")
    return (
        "\n".join(lines)
        + "\n\nOn photos of another place, camera or time it may be worse: measure "
        "it there.\n"
    )


def _slices(slices):
    """Which photos it is worse or better on than on the others of the same classes."""
    lines = [
        f"Measured on {slices['photos']:,} photos that it was not trained on. Expected is the "
        "accuracy on the other photos at the same classes; the verdicts are corrected for "
        f"{slices['tests']} comparisons.\n",
        "| attribute | value | photos | accuracy | 95 % interval | expected | verdict |",
        "| --- | --- | ---: | ---: | --- | ---: | --- |",
    ]
    for row in slices["rows"]:
        low, high = row["accuracy_interval"]
        expected = row["expected_accuracy"]
        expected_text = "–" if expected is None else f"{expected:.3f}"
        lines.append(
            f"| {_plain(row['attribute'])} | {_plain(row['value'])} | {row['photos']:,} | "
            f"{row['accuracy']:.3f} | {low:.3f} to {high:.3f} | {expected_text} | "
            f"{row['verdict']} |"
        )
    return "\n".join(lines) + "\n"


def _soup(metrics):
    """What the validation photos have to do with averaged weights; "" for those of one epoch."""
    soup = metrics.get("soup")
    if not isinstance(soup, dict) or not soup.get("kept"):
        return ""
    epochs = ", ".join(map(str, soup["epochs"]))
    return (
        f"\nIts weights are the average of those of epochs {epochs}, which the validation photos "
        f"have chosen: their accuracy was {soup['val_accuracy_before']:.3f} with one epoch and is "
        f"{soup['val_accuracy_after']:.3f} with the average. That flatters it; test photos, which "
        "have chosen nothing, say what it is worth.\n"
    )


def _limits(description):
    calibration = description.get("calibration")
    if not calibration:
        return (
            "It always answers with one of its classes, also to a photo that shows none of them, "
            "and its probabilities are not calibrated.\n"
        )
    familiarity = (
        "photos that look like none of those it has learned from"
        if calibration.get("familiarity")
        else "answers that it is not sure enough of"
    )
    return (
        "Its probabilities are calibrated. It answers `unknown` to "
        f"{familiarity}; what looks like a class without being one still gets that class.\n"
    )


def _origin(description, initial_weights):
    versions = ", ".join(f"{name} {version}" for name, version in description["versions"].items())
    table = description["formats"].items()
    formats = "; ".join(f"{name}: {', '.join(precisions)}" for name, precisions in table)
    return (
        f"Weights at the start: {initial_weights}. Made with {versions}. Formats: {formats}; their "
        f"answers were compared with the trained model's on {description['checked_images']} "
        "photos.\n"
    )
