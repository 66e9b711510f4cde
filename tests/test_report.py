"""other/report.py and its page: numbers, what is shown, odd names, and what is refused."""

import csv
import hashlib
import html.parser
import json
import os
import re
import shlex
from types import SimpleNamespace

import numpy as np
import pytest
from browser import Browser, needs_chromium
from conftest import write_image, write_samples
from sklearn import metrics

import run
from common.errors import ImageError, InputError
from config import parser
from data import label_journal
from data.geometry import Preprocessing
from data.samples import read_samples, write_sample
from evaluation import intervals, label_errors, robustness
from evaluation.intervals import macro_precision
from other.reporting import report_gallery
from prediction.classifier import Answer, Classifier
from prediction.exported_model import FORMAT
from runs import run_folder
from runs.margin_files import write_margins, write_trained_on
from runs.results import read_results

LABELS = ("<script>alert(1)</script>", '纸板 "quoted"', "it's & co", "never seen")
COLORS = dict(zip(LABELS, ((220, 30, 30), (30, 200, 60), (40, 60, 220))))
ODD = "a<b>\"quo'ted\", 纸 " + "x" * 150 + ".png"
BROKEN = "img_1_1.png"
RESULTS = ("epoch,loss,accuracy,val_loss,val_accuracy,learning_rate\n"
           "1,2.0,0.25,1.9,0.5,0.001\n2,1.0,0.5,1.5,0.75,0.0005\n3,0.5,0.9,1.6,0.75,0.0\n")
SECTIONS = ["scores", "curves", "classes", "confusion", "reliability", "errors", "labels", "made"]


def answers(count):
    """Probabilities that mostly favour the class that the name of `write_samples` tells."""
    generator = np.random.default_rng(3)
    rows = generator.dirichlet(np.ones(4) * 0.7, count)
    rows[np.arange(count), np.arange(count) * 3 // count] += 0.5
    return (rows / rows.sum(axis=1, keepdims=True)).astype(np.float32)


class Stub:
    """Answers `rows` in the order of the samples, and cannot read `BROKEN`."""

    preprocessing = Preprocessing(32)
    calibration = None

    def __init__(self, rows):
        self.rows = rows
        self.class_names = range(rows.shape[1])

    def stream(self, paths, batch_size, workers):
        for path, row in zip(paths, self.rows):
            broken = os.path.basename(path) == BROKEN
            yield path, ImageError(path, "is broken") if broken else Answer(row)


def make_run(path, labels, results=RESULTS):
    words = ["--input_size", "32", "--weights", "none", "--pooling", "gem"]
    run_folder.create(str(path), parser.parse("train", words), labels, False)
    (path / run_folder.BEST).write_bytes(b"")
    (path / run_folder.RESULTS).write_text(results)
    return path


def report(monkeypatch, path, data, rows, *words):
    """Makes a report; returns its exit status. Heat maps grow from left to right."""
    def heat_maps(run, images, classes):
        assert images.shape[1:] == (32, 32, 3) and len(images) == len(classes)
        return np.tile(np.linspace(0, 1, 3, dtype=np.float32), (len(images), 3, 1))

    monkeypatch.setattr(Classifier, "load", lambda path, devices=None: Stub(rows))
    monkeypatch.setattr(report_gallery, "heat_maps", heat_maps)
    return run.main(["--mode", "report", "--run", str(path), "--data", str(data), *map(str, words)])


class Page(html.parser.HTMLParser):
    """Tags with attributes, and the text of table cells and of elements with an id."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.tables, self.texts, self.open = [], {}, [], []
        self.text = open(path, encoding="utf-8").read()
        self.feed(self.text)
        self.close()

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        if tag == "table":
            self.rows = self.tables.setdefault(attributes["data-table"], [])
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.open.pop()

    def handle_data(self, data):
        self.texts.append(data)
        if self.open:
            self.rows[-1][-1] += data

    def all(self, attribute):
        return [each[attribute] for _, each in self.tags if attribute in each]


def percents(cells):
    return [[float(part) / 100 for part in re.findall(r"([\d.]+)%", cell)] for cell in cells]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A report on 37 images, one of them broken, in a folder whose name is no UTF-8."""
    place = tmp_path_factory.mktemp("report")
    write_samples(place / "data", 12, COLORS)
    write_image(place / "odd.png", (1, 2, 3))
    os.rename(place / "odd.png", place / "data" / ODD)
    write_sample(place / "data", ODD, 2)
    (place / "data" / "label.json").unlink()
    data = os.path.join(str(place), os.fsdecode(b"d\xe4ta"))
    os.rename(place / "data", data)
    path = make_run(place / "a run", LABELS)
    samples = read_samples(data, LABELS)
    rows = answers(len(samples.file_names))
    with pytest.MonkeyPatch.context() as patch:
        assert report(patch, path, data, rows) == 0
    rows[samples.file_names.index(BROKEN)] = 0
    predicted = np.where(rows.any(axis=1), rows.argmax(axis=1), -1)
    return SimpleNamespace(path=path, data=data, samples=samples, rows=rows, true=samples.class_ids,
                           predicted=predicted, page=Page(path / "report.html"))


def table(path):
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


# --- numbers --------------------------------------------------------------------------

def test_scores_are_scikit_learns(made):
    kept = {"labels": [0, 1, 2], "average": "macro", "zero_division": 0}
    own = made.rows[np.arange(37), made.true]
    expected = {
        "accuracy": metrics.accuracy_score(made.true, made.predicted),
        "among the 4": np.mean(own > 0),
        "macro precision": metrics.precision_score(made.true, made.predicted, **kept),
        "macro recall": np.mean([(made.predicted[made.true == n] == n).mean() for n in range(3)]),
        "macro F1": metrics.f1_score(made.true, made.predicted, **kept),
    }
    rows = made.page.tables["scores"][1:]
    for row, (words, value) in zip(rows, expected.items(), strict=True):
        (found,), (low, high) = percents(row[1:])
        assert words in row[0] and abs(found - value) < 0.00051
        assert low < found <= high and (high - low) < 0.5


def test_the_interval_of_macro_precision_is_that_of_images_drawn_again(made):
    generator = np.random.default_rng(1)
    drawn = []
    for _ in range(400):
        chosen = generator.integers(0, 37, 37)
        drawn.append(metrics.precision_score(
            made.true[chosen], made.predicted[chosen], labels=np.unique(made.true[chosen]),
            average="macro", zero_division=0))
    found = percents(made.page.tables["scores"][3])[2]
    assert np.allclose(found, np.quantile(drawn, [0.025, 0.975]), atol=0.05)


def test_macro_precision_where_a_class_is_never_the_answer():
    true, predicted = [0, 0, 1, 1, 2, 2, 2], [0, 1, 1, 1, 1, 0, 0]
    expected = metrics.precision_score(true, predicted, average="macro", zero_division=0)
    assert np.isclose(macro_precision(metrics.confusion_matrix(true, predicted)), expected)
    assert macro_precision(np.array([[1, 0, 0, 1], [0] * 4, [0, 0, 1, 0]])) == 1  # one no answer


def test_classes_the_worst_first(made):
    rows = made.page.tables["classes"][1:]
    assert rows[-1] == ["never seen", "0", "0.0%", rows[-1][3], "–", "–", "–", "–"]
    precision, recall, f1, images = metrics.precision_recall_fscore_support(
        made.true, made.predicted, labels=range(4), zero_division=0)
    order = sorted(range(3), key=lambda n: f1[n])
    assert [row[0] for row in rows[:3]] == [LABELS[n] for n in order] and f1[order[0]] < 0.95
    for number, row in zip(order, rows):
        assert int(row[1]) == images[number]
        found = [each[0] for each in percents([row[2], row[4], row[6]])]
        assert np.allclose(found, [precision[number], recall[number], f1[number]], atol=0.00051)
        for cell, total in ((row[3], (made.predicted == number).sum()), (row[5], images[number])):
            right = (made.predicted[made.true == number] == number).sum()
            assert np.allclose(percents([cell])[0], intervals.proportion(right, total), atol=0.0006)
        wrong = [p for p in made.predicted[made.true == number] if p not in (-1, number)]
        most = max(set(wrong), key=lambda n: (wrong.count(n), -n))
        assert row[7] == f"{LABELS[most]} ({wrong.count(most)})"


def test_calibration_error_by_hand(made):
    shown = made.rows.any(axis=1)
    rows, right, error = made.rows[shown], (made.predicted == made.true)[shown], 0
    confidence = rows.max(axis=1)
    for number in range(15):
        chosen = (confidence > number / 15) & (confidence <= (number + 1) / 15)
        if chosen.any():
            error += abs(right[chosen].mean() - confidence[chosen].mean()) * chosen.sum() / 36
    assert f"{error:.1%}" in made.page.text.split('id="ece">')[1][:10]


def test_verdict_and_warnings(made):
    right = (made.predicted == made.true).sum()
    text = " ".join("".join(made.page.texts).split())
    assert f"names {right} of 37 images right: an accuracy of {right / 37:.1%}" in text
    assert "Always answering “it's & co”, the largest class, would be right for 35.1%" in text
    assert "37 images are few" in text and "No image has the class never seen" in text
    assert "Images that cannot be decoded count as wrong: " in text and "trained on" not in text
    assert f"{BROKEN}: is broken." in text


def test_best_epoch(made):
    """The lower loss of two with the highest accuracy."""
    assert "those of epoch 2 of 3, which had a validation accuracy of 75.0%" in made.page.text


def test_options_and_fingerprint(made):
    differs, same = (made.page.text.split("<table data-table=\"options\">")[n] for n in (1, 2))
    assert "<code>pooling</code></td><td>gem</td><td class=\"faint\">avg</td>" in differs
    assert "<code>attention</code></td><td>none</td></tr>" in same
    lines = []
    for name in sorted(made.samples.file_names):
        with open(os.path.join(made.data, name), "rb") as file:
            content = hashlib.sha256(file.read()).hexdigest()[:16]
        label = LABELS[made.true[made.samples.file_names.index(name)]]
        lines.append(f"{name}, {label}, {content}\n")
    expected = hashlib.sha256("".join(lines).encode()).hexdigest()
    assert f'<code id="fingerprint">{expected}</code>' in made.page.text


# --- what is shown ----------------------------------------------------------------------

def test_the_page_stands_alone_and_takes_names_as_text(made):
    assert not [tag for tag, _ in made.page.tags if tag in ("script", "iframe", "b")]
    (icon,) = [attributes for tag, attributes in made.page.tags if tag == "link"]
    assert icon["rel"] == "icon" and icon["href"].startswith("data:image/svg+xml,")
    sources = made.page.all("src")
    assert sources and all(source.startswith("data:image/") for source in sources)
    assert all(target.startswith("#") for target in made.page.all("href") if target != icon["href"])
    assert not made.page.all("style")
    assert "url(" not in made.page.text and "@import" not in made.page.text
    assert [each["id"] for tag, each in made.page.tags if tag == "h2"] == SECTIONS
    assert LABELS[0] in "".join(made.page.texts) and "d\\udce4ta" in made.page.text


def test_surest_errors(made):
    wrong = np.flatnonzero((made.predicted != made.true) & (made.predicted != -1))
    surest = sorted(wrong, key=lambda n: -made.rows[n].max())
    assert 3 < len(wrong) <= 24
    assert made.page.all("data-error") == [made.samples.file_names[n] for n in surest]
    assert made.page.all("alt").count("heat map") == len(wrong) and "(Grad-CAM" in made.page.text


def test_doubtful_labels_in_page_and_table(made):
    suspects = label_errors.find(label_errors.recall(str(made.path), made.samples),
                                    made.samples, made.rows,
                                   [made.samples.file_names.index(BROKEN)])
    names = [made.samples.file_names[each.position] for each in suspects]
    assert 2 < len(names) <= 48 and made.page.all("data-suspect") == names
    rows = table(made.path / "report.csv")
    assert list(rows[0]) == ["path", "label", "suggested", "probability_of_label",
                             "probability_of_suggested", "how", "new_label"]
    assert [row["path"] for row in rows] == [os.path.join(made.data, name) for name in names]
    for row, each in zip(rows, suspects):
        own = made.true[each.position]
        assert row["label"] == LABELS[own] and row["suggested"] == LABELS[each.suggested]
        assert row["how"] == "prediction" and row["new_label"] == ""
        found = float(row["probability_of_label"]), float(row["probability_of_suggested"])
        assert np.allclose(found, made.rows[each.position][[own, each.suggested]], rtol=1e-5)


def test_the_page_names_commands_that_correct_labels(made):
    """On a page or by the table, both as `run.py` takes them."""
    commands = [html.unescape(text) for text in re.findall(r"<code>([^<]*run\.py [^<]*)</code>",
                                                           made.page.text)]
    words = [shlex.split(text.split("run.py ")[1]) for text in commands]
    assert [mode for mode, *_ in words] == ["label", "relabel"]
    label = parser.parse("label", words[0][1:])
    assert label.queue == "doubtful" and label.run == str(made.path)
    assert parser.parse("relabel", words[1][1:]).csv == str(made.path / "report.csv")


def test_overlay_warms_from_blue_to_red():
    heat = np.array([[0, 1]], np.float32)
    found = report_gallery.overlay(np.full((20, 20, 3), 128, np.uint8), heat)
    assert found[10, 0, 2] > found[10, 0, 0] + 40 and found[10, -1, 0] > found[10, -1, 2] + 40


@needs_chromium
def test_a_browser_shows_it(made, tmp_path):
    """Every picture loads, and the page's own policy refuses nothing that it holds."""
    browser = Browser(tmp_path / "profile")
    try:
        browser.open((made.path / "report.html").as_uri())
        widths = browser.evaluate(
            "Promise.all([...document.images].map(image => { image.loading = 'eager';"
            "return image.decode().then(() => image.naturalWidth) }))")
        assert len(widths) == len(made.page.all("src")) and min(widths) >= 400
        drawn = browser.evaluate("[...document.querySelectorAll('svg')].map(svg => "
                                 "[svg.clientWidth, svg.getAttribute('aria-label')])")
        assert len(drawn) == 6 and all(width > 200 and title for width, title in drawn)
        assert browser.problems == []
    finally:
        browser.close()


# --- other cases ------------------------------------------------------------------------

@pytest.fixture
def small(tmp_path):
    """A run of three plain classes and six images."""
    return make_run(tmp_path / "run", ("a", "b", "c")), write_samples(
        tmp_path / "data", 2, dict(zip("abc", COLORS.values())))


def test_json_is_one_line_and_filled_in_labels_are_kept(small, monkeypatch, capsys):
    path, data = small
    rows = np.float32([[0.9, 0.1, 0]] * 2 + [[0.8, 0.2, 0]] * 3 + [[0.1, 0.2, 0.7]])
    assert report(monkeypatch, path, data, rows, "--json") == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert out.count("\n") == 1 and "kept as" not in err
    assert found["images"] == 6 and found["undecodable"] == [f"{data}{os.sep}{BROKEN}: is broken"]
    assert found["scores"]["accuracy"]["value"] == 0.5
    # Wilson's interval of 3 of 6, by hand: z / (1 + z^2/6) sqrt(1/24 + z^2/144) = 0.31239
    assert np.isclose(found["scores"]["accuracy"]["low"], 0.18761, atol=1e-4)
    assert found["html"] == str(path / "report.html") and found["csv"] == str(path / "report.csv")
    # Northcutt's thresholds are 0.9, 0.2 and 0.35: only the first c reaches another class's.
    assert found["suspects"] == len(table(path / "report.csv")) == 1
    text = (path / "report.csv").read_text().replace("prediction,", "prediction,a")
    (path / "report.csv").write_text(text)
    assert report(monkeypatch, path, data, rows) == 0
    out, err = capsys.readouterr()
    kept = re.search(r"kept as (.*)\n", err)[1]
    assert open(kept).read() == text and table(path / "report.csv")[0]["new_label"] == ""
    assert "accuracy              0.5000  (0.1876 to 0.8124)" in out


def test_confirmed_labels_are_no_longer_doubtful(small, monkeypatch, capsys):
    path, data = small
    rows = np.float32([[0.9, 0.1, 0]] * 2 + [[0.8, 0.2, 0]] * 3 + [[0.1, 0.2, 0.7]])
    assert report(monkeypatch, path, data, rows) == 0
    doubtful, = table(path / "report.csv")
    log_path = os.path.join(data, label_journal.FILE_NAME)
    for new_label, count in ((doubtful["label"], 0), ("", 1), (doubtful["label"], 0)):
        label_journal.add(log_path, doubtful["path"], doubtful["label"], new_label)
        capsys.readouterr()
        assert report(monkeypatch, path, data, rows) == 0
        assert len(table(path / "report.csv")) == count
        assert ("1 of 1 doubtful labels" in capsys.readouterr().err) == (count == 0)


def test_images_trained_on(small, monkeypatch):
    """Their scores flatter, and their margins tell of their labels: not of one that is broken."""
    path, data = small
    samples = read_samples(data, ("a", "b", "c"))
    write_trained_on(str(path), samples.select(np.arange(4)))
    for epoch in range(3):
        write_margins(str(path), epoch, np.float16([1, -1, -2, -3]))
    assert report(monkeypatch, path, data, np.float32([[0.8, 0.1, 0.1]] * 6)) == 0
    assert "was trained on 4 of these 6 images" in (path / "report.html").read_text()
    assert [(os.path.basename(row["path"]), row["how"]) for row in table(path / "report.csv")] == [
        ("img_1_0.png", "training"), ("img_0_1.png", "training")]


@pytest.mark.parametrize("right, is_said", [(2, True), (3, False)])
def test_a_model_no_better_than_the_largest_class(small, monkeypatch, right, is_said):
    """Six images of three classes, one of them broken: 'a' would be right for two."""
    path, data = small
    rows = np.eye(3, dtype=np.float32)[[0, 0, 0, 0, 2 if right == 3 else 0, 0]]
    assert report(monkeypatch, path, data, rows) == 0
    said = ("But always answering “a”, the largest class, would be right for 33.3%: this model is "
            "no better.")
    text = " ".join((path / "report.html").read_text().split())
    assert (said in text) is is_said and ("not significantly better" in text) is not is_said


@pytest.mark.parametrize("right, is_said", [(6, True), (7, False)])
def test_a_model_that_cannot_judge_labels(tmp_path, monkeypatch, capsys, right, is_said):
    """Below 70 %: 6 of 10 images are too few, 7 of 10 are enough."""
    data = write_samples(tmp_path / "data", 10, {"a": COLORS[LABELS[0]]})
    path = make_run(tmp_path / "run", ("a", "b"))
    rows = np.float32([[0.9, 0.1]] * right + [[0.1, 0.9]] * (10 - right))
    monkeypatch.setattr(Stub, "stream", lambda self, paths, *_: zip(paths, map(Answer, rows)))
    assert report(monkeypatch, path, data, rows) == 0
    said = (f"A model that names {right}0.0% of these images right cannot judge their labels: it "
            "takes one that names at least 70% right.")
    out, text = capsys.readouterr().out, (path / "report.html").read_text()
    assert ("cannot judge" in out, "cannot judge" in text) == (is_said, is_said)
    assert not is_said or (said in out.splitlines() and said in text)


def test_the_page_has_the_likeliest_suspects_and_says_how_many_it_leaves_out(
        tmp_path, monkeypatch, capsys):
    """Of 400 labels "a" 60 look like b, as 340 labelled "b" do, the first of them the most."""
    data = write_samples(tmp_path / "data", 400, {"a": (220, 30, 30), "b": (40, 60, 220)},
                         size=(4, 4))
    path = make_run(tmp_path / "run", ("a", "b"))
    rows = np.float32([[0.9, 0.1]] * 400 + [[0.2, 0.8]] * 400)
    for position in range(60):
        rows[position] = 0.001 * (1 + position), 1 - 0.001 * (1 + position)
    monkeypatch.setattr(Stub, "stream", lambda self, paths, *_: zip(paths, map(Answer, rows)))
    assert report(monkeypatch, path, data, rows) == 0
    shown, names = Page(path / "report.html").all("data-suspect"), read_samples(
        data, ("a", "b")).file_names[:60]
    assert shown == names[: len(shown)] and len(shown) == 48 <= 100
    assert [os.path.basename(row["path"]) for row in table(path / "report.csv")] == names
    assert "12 more are in <code>report.csv</code>" in (path / "report.html").read_text()
    out = capsys.readouterr().out
    assert re.search(r"doubtful labels +60  \(12 of them only in the table", out)


def test_no_image_can_be_decoded(small, monkeypatch):
    path, data = small
    (path / "results.csv").unlink()
    monkeypatch.setattr(Stub, "stream", lambda self, paths, *_: (
        (path, ImageError(path, "is broken")) for path in paths))
    assert report(monkeypatch, path, data, answers(6)[:, :3]) == 0
    text = (path / "report.html").read_text()
    assert "No image got an answer" in text and "results.csv is missing" in text
    assert table(path / "report.csv") == []


def test_exported_model(small, monkeypatch, capsys):
    path, data = small
    model = path / "model"
    model.mkdir()
    (model / "model.json").write_text(json.dumps({
        "format": FORMAT, "labels": ["a", "b", "c"], "files": {},
        "preprocessing": {"size": 32, "fill_color": [0, 0, 0]}}))
    assert report(monkeypatch, model, data, answers(6)[:, :3]) == 2
    assert "--target is missing" in capsys.readouterr().err
    assert report(monkeypatch, model, data, 1 - answers(6)[:, :3], "--target",
                  path / "mine.html") == 0
    page = Page(path / "mine.html")
    assert "does not know how it was trained" in page.text and "heat map" not in page.all("alt")
    assert page.all("data-error") and "no heat maps: an exported model" in page.text
    assert sorted(os.listdir(model)) == ["model.json"] and (path / "mine.csv").exists()


@pytest.mark.parametrize("target, part", [
    ("report.csv", "has to end in .html"),
    ("a file/new/report.html", "a file is not a folder"),
    ("run.html", "run.html is not a file"),
])
def test_targets_refused_before_the_work(small, tmp_path, monkeypatch, capsys, target, part):
    path, data = small
    (tmp_path / "run.html").mkdir()
    (tmp_path / "a file").touch()
    assert report(monkeypatch, path, data, None, "--target", tmp_path / target) == 2
    assert part in capsys.readouterr().err


def test_the_folder_of_the_target_is_made(small, tmp_path, monkeypatch):
    path, data = small
    page_path = tmp_path / "a" / "b" / "page.html"
    assert report(monkeypatch, path, data, answers(6)[:, :3], "--target", page_path) == 0
    assert Page(page_path).text and page_path.with_suffix(".csv").exists()


@pytest.mark.parametrize("weights, is_said", [
    (None, True), ("of another training", True), (hashlib.sha256(b"").hexdigest(), False)])
def test_an_export_is_suggested_where_there_is_none_of_these_weights(
        small, monkeypatch, capsys, weights, is_said):
    path, data = small
    if weights:
        (path / "model").mkdir()
        (path / "model" / "model.json").write_text(json.dumps({"weights": weights}))
    assert report(monkeypatch, path, data, answers(6)[:, :3]) == 0
    assert (f"run.py export --run {path}\n" in capsys.readouterr().err) is is_said


@pytest.mark.parametrize("text", ["epoch,loss\n1,2\n", RESULTS + "4,much,1,1,1,1\n",
                                  RESULTS + "4\n"])
def test_damaged_results(small, text):
    path, _ = small
    (path / "results.csv").write_text(text)
    with pytest.raises(InputError, match="results.csv: is not what a training writes"):
        read_results(str(path))


def test_a_table_over_another_file_is_refused(tmp_path, monkeypatch, capsys):
    """The run's own results.csv above all."""
    data = write_samples(tmp_path / "data", 2, COLORS)
    path = make_run(tmp_path / "run", list(COLORS))
    assert report(monkeypatch, path, data, answers(6), "--target", path / "results.html") == 2
    assert "results.csv" in capsys.readouterr().err
    assert (path / "results.csv").read_text() == RESULTS and not (path / "results.html").exists()


def test_images_without_margins_are_named(tmp_path, monkeypatch):
    data = write_samples(tmp_path / "data", 2, {**COLORS, "more": (9, 9, 9)})
    path = make_run(tmp_path / "run", [*COLORS, "more"])
    samples = read_samples(data, [*COLORS, "more"])
    write_trained_on(str(path), samples.select(np.arange(4)))
    assert report(monkeypatch, path, data, answers(8)) == 0
    text = " ".join((path / "report.html").read_text().split())
    assert "Nothing is said of 4 images" in text
    write_margins(str(path), 1, np.ones(4, np.float16))
    assert report(monkeypatch, path, data, answers(8)) == 0
    assert "Nothing is said of" not in " ".join((path / "report.html").read_text().split())


# --- robustness -----------------------------------------------------------------------

def test_robustness_on_request(made, tmp_path, monkeypatch, capfd):
    found = {kind: [0.9 - 0.1 * position for position in range(5)]
             for kind in robustness.STRENGTHS}
    monkeypatch.setattr(robustness, "measure", lambda *arguments: found)
    words = ("--robustness", "--target", tmp_path / "r.html", "--json")
    assert report(monkeypatch, made.path, made.data, made.rows, *words) == 0
    assert json.loads(capfd.readouterr().out)["robustness"] == found
    header, *rows = Page(tmp_path / "r.html").tables["robustness"]
    assert len(header) == 6 and [row[0] for row in rows] == list(found)
    for row in rows:
        assert percents(row[1:]) == [[0.9], [0.8], [0.7], [0.6], [0.5]]
    assert "robustness" not in made.page.tables
