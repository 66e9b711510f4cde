"""evaluation/model_card.py: what an exported model says of itself to people and to a hub."""

import re

import pytest
import yaml
from statsmodels.stats.proportion import proportion_confint

from evaluation.model_card import model_card, update_limits, write_card

DESCRIPTION = {
    "run": "waste: first", "backbone": "EfficientNetLite0", "labels": ["glass", "玻璃|b<"],
    "preprocessing": {"size": 224, "resize": "letterbox"}, "calibration": None,
    "versions": {"python": "3.12.1", "keras": "3.15.1"}, "checked_images": 80,
    "formats": {"onnx": {"float32": {}, "int8": {}}, "savedmodel": {"float32": {}}},
}
METRICS = {
    "train_images": 1384, "val_images": 48, "val_accuracy": 0.875, "val_class_images": [28, 20],
    "test_images": 52, "test_accuracy": 0.75, "test_macro_f1": 0.7321, "epochs": 8,
}


def front_matter(card):
    return yaml.safe_load(card.split("---\n")[1])


def test_scores_with_wilsons_interval():
    card = model_card(DESCRIPTION, METRICS, "imagenet")
    low, high = proportion_confint(39, 52, method="wilson")
    judges = "52 test photos, which neither trained nor chose it"
    assert f"| accuracy | {judges} | 0.750 | {low:.3f} to {high:.3f} |" in card
    assert f"| macro f1 | {judges} | 0.732 |  |" in card
    low, high = proportion_confint(42, 48, method="wilson")
    assert f"| accuracy | 48 validation photos | 0.875 | {low:.3f} to {high:.3f} |" in card
    assert card.index("52 test") < card.index("48 validation photos |")


def test_front_matter_is_that_of_the_hub():
    head = front_matter(model_card(DESCRIPTION, METRICS, "imagenet"))
    assert head["library_name"] == "keras" and head["pipeline_tag"] == "image-classification"
    (model,) = head["model-index"]
    assert model["name"] == "waste: first"
    test, validation = model["results"]
    assert test["metrics"] == [{"type": "accuracy", "value": 0.75},
                               {"type": "macro_f1", "value": 0.7321}]
    assert validation["metrics"] == [{"type": "accuracy", "value": 0.875}]
    assert test["task"] == {"type": "image-classification"} and test["dataset"]["name"]


def test_data_origin_and_limits():
    card = model_card(DESCRIPTION, METRICS, "imagenet")
    assert "Trained on 1,384 photos, validated on 48." in card
    assert "| glass | 28 |\n| 玻璃\\|b&lt; | 20 |\n" in card
    assert "always answers with one of its classes" in card
    assert "onnx: float32, int8; savedmodel: float32" in card and "python 3.12.1" in card


def test_without_metrics_nothing_is_claimed():
    card = model_card(DESCRIPTION, {}, "none")
    assert "Not measured." in card and "Nothing is known of it." in card
    assert front_matter(card)["model-index"][0]["results"] == []


def test_notes_are_kept_and_the_rest_is_new(tmp_path):
    (tmp_path / "new").mkdir()
    write_card(str(tmp_path), "first")
    assert (tmp_path / "README.md").read_text().endswith("under which licence.\n")
    with open(tmp_path / "README.md", "a", encoding="utf-8") as file:
        file.write("CC0, by 王.\n")
    write_card(str(tmp_path / "new"), "second", str(tmp_path))
    text = (tmp_path / "new" / "README.md").read_text(encoding="utf-8")
    assert text.startswith("second\n") and text.endswith("licence.\nCC0, by 王.\n")
    assert text.count("## Notes") == 1


@pytest.mark.parametrize("familiarity, words", [
    (None, "not sure enough of"), ({"limit": 1.0}, "look like none of those")])
def test_calibration_changes_what_it_does_not_know(tmp_path, familiarity, words):
    write_card(str(tmp_path), model_card(DESCRIPTION, METRICS, "imagenet"))
    before = (tmp_path / "README.md").read_text(encoding="utf-8")
    update_limits(str(tmp_path), {**DESCRIPTION, "calibration": {"familiarity": familiarity}})
    after = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "Its probabilities are calibrated." in after and words in after
    section = r"(?s)(?<=## What it does not know\n\n).*?(?=## How)"
    assert re.sub(section, "", before) == re.sub(section, "", after)
    (tmp_path / "README.md").write_text("somebody's own\n")
    update_limits(str(tmp_path), DESCRIPTION)
    assert (tmp_path / "README.md").read_text() == "somebody's own\n"
