"""other/compare.py: the verdict, its numbers, and what is refused."""

import json
import os

import numpy as np
import pytest
from scipy.stats import binom
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint
from test_calibrate import (
    LABELS,
    done,
    go,
    make_exported,
    make_run,
    tables,  # noqa: F401
    write_images,
)

from data.label_names import write_label_names
from data.samples import write_sample
from other import compare
from runs import run_folder

BOTH, NONE = 60, 10
TRUE = np.random.default_rng(0).integers(0, 3, 100)


def table_of(right, true, order=(0, 1, 2)):
    """The rows of a model that names the true class where `right`, another elsewhere."""
    names = np.where(right, true, (true + 1) % 3)
    return np.eye(3, dtype=np.float32)[names][:, list(order)]


@pytest.fixture
def two(tmp_path, tables):  # noqa: F811
    """Makes run A and exported model B, which get these numbers of images right alone."""
    def two(only_first, only_second, order=(0, 1, 2)):
        count = BOTH + NONE + only_first + only_second
        true = TRUE[:count]
        first = make_run(tmp_path / "runs" / "a")
        second = make_exported(tmp_path / "b", [LABELS[number] for number in order])
        position = np.arange(count)
        only = position < BOTH + only_first
        tables[first] = table_of(only, true)
        other = (position < BOTH) | ~only & (position < BOTH + only_first + only_second)
        tables[second] = table_of(other, true, order)
        data = write_images(tmp_path / "data", true)
        return ("--mode", "compare", "a", second, "--save_dir", tmp_path / "runs", "--data", data)

    return two


@pytest.mark.parametrize("only_first, only_second, verdict", [
    (3, 20, "better"), (20, 3, "worse"), (5, 12, "can't tell"), (0, 5, "can't tell"),
    (0, 6, "better"),
])
def test_compare(two, capsys, only_first, only_second, verdict):
    found, err = done(capsys, *two(only_first, only_second))
    count = BOTH + NONE + only_first + only_second
    right = [BOTH + only_first, BOTH + only_second]
    assert err == ""
    assert found["images"] == count and found["verdict"] == verdict
    assert (found["only_first"], found["only_second"]) == (only_first, only_second)
    assert found["accuracy"] == [number / count for number in right]
    for interval, number in zip(found["intervals"], right):
        assert interval == pytest.approx(proportion_confint(number, count, method="wilson"))
    assert found["difference"] == pytest.approx((only_second - only_first) / count)
    low, high = found["difference_interval"]
    assert low < found["difference"] < high
    table = [[BOTH, only_first], [only_second, NONE]]
    assert found["p_value"] == pytest.approx(mcnemar(table, exact=True).pvalue)
    assert (found["images_needed"] is None) == (verdict != "can't tell")
    assert found["undecodable"] == []


def test_the_same_model_twice(two, capsys):
    words = list(two(4, 0))
    words[3] = "a"
    found, _ = done(capsys, *words)
    assert found["difference"] == 0 and found["verdict"] == "can't tell" and found["p_value"] == 1
    assert found["images_needed"] is None
    low, high = found["difference_interval"]
    assert low == pytest.approx(-high) and 0.01 < high < 0.1
    _, out, _ = go(capsys, *words)
    assert out.splitlines()[-1].startswith("Can't tell: B may be up to ")
    assert "are needed" not in out


def test_as_text(two, capsys):
    status, out, err = go(capsys, *two(5, 12))
    assert status == 0 and err == ""
    lines = out.splitlines()
    assert lines[0].startswith("A  ") and f"accuracy {65 / 87:.4f}" in lines[0]
    assert lines[1].startswith("B  ") and f"accuracy {72 / 87:.4f}" in lines[1]
    assert "images 87; only A right 5, only B right 12" in lines
    assert "To settle a difference of 8.05% about " in lines[-1]


@pytest.mark.parametrize("only_first, only_second, last", [
    (3, 20, "B is better than A."), (20, 3, "B is worse than A."),
])
def test_a_clear_verdict_as_text(two, capsys, only_first, only_second, last):
    assert go(capsys, *two(only_first, only_second))[1].splitlines()[-1] == last


def test_classes_in_another_order_are_mapped_by_name(two, capsys):
    words = two(3, 20, order=(2, 0, 1))
    found, err = done(capsys, *words)
    assert found["accuracy"] == [63 / 93, 80 / 93] and err == ""
    os.unlink(os.path.join(words[-1], "label.json"))
    again, err = done(capsys, *words)  # then the ids are the first model's
    assert again == found and err.count("\n") == 1 and "no label.json" in err


def test_the_ids_of_the_images_are_those_of_their_own_label_json(two, capsys):
    words = two(3, 20)
    before, _ = done(capsys, *words)
    for position, label in enumerate(TRUE[: before["images"]]):
        write_sample(words[-1], f"{position:04}.png", 2 - label)
    write_label_names(words[-1], LABELS[::-1])
    assert done(capsys, *words)[0] == before


def test_an_undecodable_image_is_wrong_for_both(two, capsys):
    words = two(5, 12)
    # Of the first class, which a row of zeros would name; both had it right.
    name = f"{TRUE.tolist().index(0):04}.png"
    with open(os.path.join(words[-1], name), "wb") as file:
        file.write(b"no image")
    found, _ = done(capsys, *words)
    assert found["accuracy"] == [64 / 87, 71 / 87]
    assert len(found["undecodable"]) == 1 and name in found["undecodable"][0]
    assert "counted as wrong: " in go(capsys, *words)[1]


def test_other_classes_are_refused(two, tmp_path, capsys):
    words = list(two(5, 12))
    words[3] = make_exported(tmp_path / "other", [*LABELS[:2], "glass"])
    status, out, err = go(capsys, *words)
    assert status == 2 and out == "" and err.count("\n") == 1
    assert words[3] in err and "glass" in err and LABELS[2] in err and LABELS[0] not in err
    words[3] = "a"
    with open(os.path.join(words[-1], "label.json"), "w", encoding="utf-8") as file:
        json.dump({"0": "cat", "1": LABELS[1], "2": LABELS[2]}, file)
    status, _, err = go(capsys, *words)
    assert status == 2 and err.count("\n") == 1 and "label.json" in err and "cat" in err


def test_not_two_models_are_refused(two, capsys):
    words = list(two(5, 12))
    for runs in (["a"], ["a", words[3], "a"]):
        status, out, err = go(capsys, "--mode", "compare", "--runs", *runs, *words[4:])
        assert status == 2 and out == "" and err.count("\n") == 1
        assert f"--runs: {len(runs)} given" in err and "two" in err
    words[2] = "nowhere"
    status, _, err = go(capsys, *words)
    assert status == 2 and "--runs: 'nowhere'" in err and err.count("\n") == 1


def test_a_damaged_calibration_does_not_matter(two, tmp_path, capsys):
    words = two(5, 12)
    (tmp_path / "runs" / "a" / run_folder.CALIBRATION).write_text("{")
    assert done(capsys, *words)[0]["verdict"] == "can't tell"


@pytest.mark.parametrize("only_first, only_second, count", [(5, 12, 87), (20, 30, 500)])
def test_that_many_images_settle_it_four_times_in_five(only_first, only_second, count):
    needed = compare.images_needed(only_first, only_second, count)
    generator = np.random.default_rng(0)
    shares = [only_first / count, only_second / count]
    first, second, _ = generator.multinomial(needed, [*shares, 1 - sum(shares)], 20_000).T
    p = 2 * binom.cdf(np.minimum(first, second), first + second, 0.5)
    settled = (p < 0.05).mean()  # the exact test, which is a little slower to see it
    assert 0.72 < settled < 0.82
