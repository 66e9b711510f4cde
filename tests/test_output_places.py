"""Outputs in a default place: those of the same data are replaced, those of others are kept."""

import os

import pytest
from conftest import write_samples
from test_eval_summary import TWO, go  # noqa: F401

import run as front_door
from common import output_places


def write(folder, name, text, **subject):
    place = output_places.choose(str(folder / name), **subject)
    with open(place.path, "w", encoding="utf-8") as file:
        file.write(text)
    place.record()
    return os.path.basename(place.path)


def test_other_data_get_a_number_and_the_same_replace_their_own(tmp_path, capsys):
    (tmp_path / "one").mkdir()
    assert write(tmp_path, "eval.csv", "1", data=str(tmp_path / "one")) == "eval.csv"
    assert write(tmp_path, "eval.csv", "2", data="two") == "eval-2.csv"
    said = capsys.readouterr().err
    assert f"eval.csv is about data {tmp_path}/one and stays; this one is {tmp_path}/eval-2" in said
    assert output_places.latest(str(tmp_path / "eval.csv")).path == str(tmp_path / "eval-2.csv")
    assert write(tmp_path, "eval.csv", "3", data=str(tmp_path / "one" / "..", ) + "/one"
                 ) == "eval.csv"
    assert not capsys.readouterr().err
    place = output_places.latest(str(tmp_path / "eval.csv"))
    assert place.path == str(tmp_path / "eval.csv")
    assert (tmp_path / "eval.csv").read_text() == "3"
    assert (tmp_path / "eval-2.csv").read_text() == "2"
    assert write(tmp_path, "eval.csv", "4", data="two", part="val") == "eval-3.csv"
    for data, wanted in ((str(tmp_path / "one"), "eval.csv"), ("two", "eval.csv")):
        last = output_places.latest(str(tmp_path / "eval.csv"), data=data)
        assert os.path.basename(last.path) == wanted
    assert output_places.latest(str(tmp_path / "eval.csv")).path == str(tmp_path / "eval-3.csv")


def test_what_is_not_known_stays(tmp_path, capsys):
    (tmp_path / "audit").mkdir()
    (tmp_path / output_places.INDEX).write_text("[not json")
    assert output_places.choose(str(tmp_path / "audit"), data="one").path == str(
        tmp_path / "audit-2")
    assert "may be about other data" in capsys.readouterr().err
    assert output_places.latest(str(tmp_path / "audit")).path == str(tmp_path / "audit")


def test_a_named_path_is_taken_as_it_is_and_its_owner_is_known(tmp_path):
    """Named, it replaces; the next run for the first data must not take it for its own."""
    assert write(tmp_path, "report.html", "1", data="one") == "report.html"
    path = str(tmp_path / "report.html")
    place = output_places.choose("elsewhere", path, data="two")
    assert place.path == path
    place.record()
    assert write(tmp_path, "report.html", "3", data="one") == "report-2.html"
    output_places.choose("elsewhere", str(tmp_path / "mine.html"), data="two").record()
    assert "mine.html" not in (tmp_path / output_places.INDEX).read_text()


@pytest.mark.parametrize("mode, output", [
    ("audit", "audit"), ("statistics", "statistics"), ("mean_std", "mean_std.json"),
    ("preview", "preview.png"),
])
def test_modes_keep_the_output_of_other_data(tmp_path, monkeypatch, mode, output):
    monkeypatch.chdir(tmp_path)
    for name, color in (("one", (200, 20, 20)), ("two", (20, 20, 200))):
        write_samples(tmp_path / name, 4, {"a": color, "b": (9, 200, 9)})
    option = "--train_data" if mode == "preview" else "--source"
    stem, ending = os.path.splitext(output)

    def outputs():
        return sorted(name for name in os.listdir() if name.startswith(stem))

    def content():
        path = output if os.path.isfile(output) else f"{output}/{os.listdir(output)[0]}"
        with open(path, "rb") as file:
            return file.read()

    for name in ("one", "one"):
        assert front_door.main([mode, option, name]) in (0, 3)
        assert outputs() == [output]
    before = content()
    assert front_door.main([mode, option, "two"]) in (0, 3)
    assert outputs() == sorted([output, f"{stem}-2{ending}"]) and content() == before
    assert front_door.main([mode, option, "two", "--target", output]) in (0, 3)
    assert outputs() == sorted([output, f"{stem}-2{ending}"])


def test_eval_and_confusion_matrix_of_other_data(go, tmp_path, capsys):  # noqa: F811
    """The charts are of what was evaluated last, and each has its own."""
    go(TWO, 4, [[0.9, 0.1]] * 4 + [[0.2, 0.8]] * 4)
    words = ["confusion_matrix", "--run", str(tmp_path / "one")]
    assert front_door.main(words) == 0
    assert capsys.readouterr().out.startswith("images 8 ")
    first = (tmp_path / "one" / "eval.csv").read_bytes()
    _, err = go(TWO, 2, [[0.9, 0.1]] * 2 + [[0.2, 0.8]] * 2, folder="others")
    assert "eval-2.csv" in err and (tmp_path / "one" / "eval.csv").read_bytes() == first
    assert front_door.main(words) == 0
    out, err = capsys.readouterr()
    assert out.startswith("images 4 ") and "eval-2.csv: data" in err
    assert (tmp_path / "one" / "confusion_matrix" / "counts.csv").exists()
    assert "confusion_matrix-2" in out
