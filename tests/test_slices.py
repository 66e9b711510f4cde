"""Slices: attributes read, divided and measured, and what report and compare make of them."""

import itertools
import json

import numpy as np
import pytest
from conftest import write_samples
from scipy.stats import fisher_exact, norm
from statsmodels.stats.contingency_tables import StratifiedTable, mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint
from test_calibrate import done, go, tables  # noqa: F401
from test_compare import two  # noqa: F401
from test_model_card import DESCRIPTION
from test_report import COLORS, Page, make_run, report

from common.errors import InputError
from common.files import checksum
from data.attributes import Attribute, read_attributes, read_table
from data.samples import Samples, read_samples
from evaluation import intervals, slices
from evaluation.model_card import model_card
from evaluation.slices import divide, expected_accuracy, measure, stratified_test
from other import compare
from other.reporting import slice_section
from pages.text_tables import texts_of
from runs import run_folder
from runs.margin_files import write_trained_on
from runs.slices_file import NAME, read_slices

# --- numbers ----------------------------------------------------------------------------

@pytest.mark.parametrize("level", [0.95, 0.9])
@pytest.mark.parametrize("counts", [
    (56, 70, 48, 80), (9, 10, 3, 10), (10, 10, 0, 20), (0, 10, 0, 10), (1, 50, 900, 1000),
])
def test_difference_is_newcombes(counts, level):
    expected = confint_proportions_2indep(*counts, method="newcomb", alpha=1 - level)
    assert intervals.difference(*counts, level) == pytest.approx(expected)


@pytest.mark.parametrize("table", [
    [[3, 1], [1, 3]], [[10, 0], [50, 40]], [[8, 2], [900, 100]], [[30, 30], [10, 40]],
])
def test_with_one_class_it_is_fishers_test(table):
    (right, wrong), (rest_right, rest_wrong) = table
    p_value, _ = stratified_test(*np.array([[right], [right + wrong], [rest_right],
                                            [rest_right + rest_wrong]]))
    assert p_value == pytest.approx(fisher_exact(table).pvalue)


def test_the_exact_test_by_enumeration():
    """Every way to choose a class's photos of the slice is as likely as another."""
    is_right = [[1, 1, 1, 0, 0], [1, 0, 0, 0, 0, 1], [1, 1, 1, 1]]
    own_totals = [2, 3, 4]  # the third class is only in the slice
    sums, probabilities = [], []
    for classes in itertools.product(*(itertools.combinations(own, total) for own, total
                                       in zip(is_right, own_totals))):
        sums.append(sum(map(sum, classes)))
    sums = np.array(sums)
    probabilities = {value: np.mean(sums == value) for value in set(sums)}
    totals = np.array(own_totals)
    all_photos, all_right = np.array([5, 6, 4]), np.array([3, 2, 4])
    for own_right in ([0, 0, 4], [2, 2, 4], [1, 1, 4], [2, 0, 4], [0, 2, 4]):
        own = np.array(own_right)
        expected = sum(probability for probability in probabilities.values()
                       if probability <= probabilities[sum(own_right)] + 1e-9)
        p_value, excess = stratified_test(own, totals, all_right - own, all_photos - totals)
        assert p_value == pytest.approx(expected)
        assert excess == pytest.approx(sum(own_right) - np.mean(sums))


@pytest.mark.parametrize("seed", range(4))
def test_with_many_photos_it_is_the_chi_square_of_cochran_mantel_haenszel(seed):
    generator = np.random.default_rng(seed)
    total, rest_total = generator.integers(1500, 4000, (2, 5))
    recall = generator.uniform(0.5, 0.9, 5)
    right, rest_right = generator.binomial(total, recall - 0.01), generator.binomial(rest_total,
                                                                                     recall)
    p_value, _ = stratified_test(right, total, rest_right, rest_total)
    stratified = StratifiedTable([
        np.array([[own, own_total - own], [other, other_total - other]])
        for own, own_total, other, other_total in zip(right, total, rest_right, rest_total)])
    corrected = stratified.test_null_odds(correction=True).pvalue
    assert norm.isf(p_value / 2) == pytest.approx(norm.isf(corrected / 2), abs=0.02)


def test_so_many_photos_that_rare_counts_are_left_out():
    counts = np.array([[8000, 5100], [10_000, 10_000], [8000, 5000], [10_000, 10_000]])
    p_value, excess = stratified_test(*counts)
    classes = [np.array([[8000, 2000], [8000, 2000]]), np.array([[5100, 4900], [5000, 5000]])]
    corrected = StratifiedTable(classes).test_null_odds(correction=True).pvalue
    assert p_value == pytest.approx(corrected, rel=0.01) and excess == pytest.approx(50)
    counts[0] = 0
    assert stratified_test(*counts) == (0, -6500)


def test_expected_accuracy_by_hand():
    # 30 photos of class 0 (rest: 90 of 100), 10 of class 1 (rest: 4 of 10), 10 of class 2 (rest:
    # none): (27 + 4 + 7) / 50
    counts = np.array([[20, 3, 7], [30, 10, 10], [90, 4, 0], [100, 10, 0]])
    assert expected_accuracy(*counts) == pytest.approx(38 / 50)


def division_of(**attributes):
    return divide([Attribute(name, list(values)) for name, values in attributes.items()])


def test_a_row_and_the_correction_for_many():
    generator = np.random.default_rng(5)
    camera, site = generator.choice(list("ABC"), 400), generator.choice(list("xyzw"), 400)
    class_ids = generator.integers(0, 3, 400)
    is_right = generator.random(400) < np.where(camera == "B", 0.6, 0.85)
    result = measure(division_of(camera=camera, site=site), is_right, class_ids)
    rows = result["rows"]
    assert result["tests"] == len(rows) == 7
    _, expected, *_ = multipletests([row["p_value"] for row in rows], method="holm")
    assert [row["p_corrected"] for row in rows] == pytest.approx(expected, abs=1e-9)
    assert (rows[0]["attribute"], rows[0]["value"]) == ("camera", "B")
    assert rows[0]["verdict"] == "worse" and {row["verdict"] for row in rows[1:4]} == {"can't tell"}
    gaps = [row["accuracy"] - row["expected_accuracy"] for row in rows]
    assert gaps == sorted(gaps)
    own = camera == "B"
    right, count = int(is_right[own].sum()), int(own.sum())
    rest_right, rest_count = int(is_right[~own].sum()), int((~own).sum())
    assert (rows[0]["photos"], rows[0]["rest_photos"]) == (count, rest_count)
    assert rows[0]["accuracy_interval"] == pytest.approx(
        proportion_confint(right, count, method="wilson"))
    assert rows[0]["difference"] == pytest.approx(right / count - rest_right / rest_count)
    assert rows[0]["difference_interval"] == pytest.approx(
        confint_proportions_2indep(right, count, rest_right, rest_count, method="newcomb"))


def test_two_slices_ask_one_question():
    camera = np.repeat(["A", "B"], [60, 40])
    is_right = np.arange(100) % 10 < np.where(camera == "A", 9, 6)
    result = measure(division_of(camera=camera), is_right, np.zeros(100, int))
    p_value = fisher_exact([[54, 6], [24, 16]]).pvalue
    assert result["tests"] == 1
    assert [row["p_corrected"] for row in result["rows"]] == pytest.approx([p_value] * 2)
    assert [row["verdict"] for row in result["rows"]] == ["worse", "better"]


def test_photos_without_a_value_are_in_no_rest():
    camera = ["A"] * 20 + ["B"] * 20 + [""] * 20
    rows = measure(division_of(camera=camera), np.arange(60) < 30, np.zeros(60, int))["rows"]
    assert [(row["value"], row["rest_photos"], row["rest_accuracy"]) for row in rows] == [
        ("B", 20, 1), ("A", 20, 0.5)]
    assert rows[0]["p_value"] == pytest.approx(fisher_exact([[10, 10], [20, 0]]).pvalue)


def test_harder_classes_are_not_held_against_a_slice():
    """Every photo of class 1 has a half chance, wherever; site B has most of them."""
    class_ids = np.repeat([0, 1, 0, 1], [180, 20, 20, 180])
    site = np.repeat(["A", "B"], 200)
    is_right = np.where(class_ids == 0, np.arange(400) % 20 > 0, np.arange(400) % 2 > 0)
    rows = measure(division_of(site=site), is_right, class_ids)["rows"]
    harder = next(row for row in rows if row["value"] == "B")
    assert harder["difference_interval"][1] < -0.25
    for row in rows:
        assert row["verdict"] == "can't tell" and row["p_value"] == 1
        assert row["expected_accuracy"] == pytest.approx(row["accuracy"])


def test_a_slice_without_a_class_in_common():
    class_ids = np.repeat([0, 1], [30, 30])
    rows = measure(division_of(site=np.repeat(["A", "B"], 30)), np.arange(60) < 30, class_ids)
    assert rows["tests"] == 0
    for row in rows["rows"]:
        assert row["verdict"] == "other classes"
        assert row["p_value"] is row["p_corrected"] is row["expected_accuracy"] is None
    texts = texts_of("en")
    values = slice_section.page_values(rows, texts)
    assert [row["verdict_text"] for row in values["rows"]] == ["no class in common"] * 2
    assert values["rows"][0]["expected_text"] == "–"
    assert values["sentences"] == [("", texts("report.slices_none", tests=0))]
    assert "| site | A | 30 | 1.000 | " in model_card(
        DESCRIPTION, {}, "none", {"photos": 60, **rows})


def simulate(generator, drop):
    """Three sites with different classes; the first is worse by `drop` at each class."""
    site = np.repeat(["A", "B", "C"], [60, 80, 60])
    class_ids = (generator.random(200) < np.where(site == "A", 0.7, 0.3)).astype(int)
    accuracy = np.where(class_ids == 1, 0.65, 0.95) - drop * (site == "A")
    return division_of(site=site), generator.random(200) < accuracy, class_ids


@pytest.fixture
def no_intervals(monkeypatch):
    """Leaves out what takes the time, and decides nothing."""
    monkeypatch.setattr(slices, "proportion", lambda *counts: (0, 1))
    monkeypatch.setattr(slices, "difference", lambda *counts: (-1, 1))


def test_without_a_difference_few_data_sets_name_a_slice(no_intervals):
    generator = np.random.default_rng(0)
    names = sum(
        any(row["verdict"] != "can't tell" for row in measure(*simulate(generator, 0))["rows"])
        for _ in range(400))
    # With a chance of 5 % each, more than 31 of 400 would be named in 0.6 % of such tests.
    assert names <= 31


def test_a_slice_that_is_worse_by_30_points_is_named(no_intervals):
    generator = np.random.default_rng(1)
    verdicts = [{row["value"]: row["verdict"] for row in measure(*simulate(generator, 0.3))["rows"]}
                for _ in range(40)]
    assert sum(verdict["A"] == "worse" for verdict in verdicts) >= 36
    assert not any(verdict["A"] == "better" for verdict in verdicts)


# --- division ---------------------------------------------------------------------------

def test_rare_values_are_pooled_or_left_in_the_rest():
    values = ["A"] * 20 + ["B"] * 15 + ["c", "d", "e"] * 4 + [""] * 3
    division = division_of(camera=values, lens=["x"] * 30 + ["y"] * 11 + ["z"] * 9)
    names = [(own.attribute, own.value, own.pooled) for own in division.slices]
    assert names == [("camera", "A", 0), ("camera", "B", 0), ("camera", "", 3), ("lens", "x", 0),
                     ("lens", "y", 0)]
    assert division.slices[2].members.tolist() == [False] * 35 + [True] * 12 + [False] * 3
    assert division.slices[0].others.sum() == 27  # those whose camera is not known are no rest
    assert division.slices[3].others.sum() == 20  # z is
    camera, lens = division.remarks
    assert (camera.unknown, camera.rare, camera.slices, camera.is_cut) == (3, 0, 3, False)
    assert (lens.unknown, lens.rare, lens.slices) == (0, 9, 2)


def test_many_numbers_are_cut_into_quartiles():
    numbers = np.random.default_rng(0).permutation(np.arange(100)) / 10
    division = division_of(speed=map(str, numbers), gear=[str(index % 4) for index in range(100)])
    expected = {"0 – 2.4": (0, 2.45), "2.5 – 4.9": (2.45, 4.95), "5 – 7.4": (4.95, 7.45),
                "7.5 – 9.9": (7.45, 10)}
    assert {own.value for own in division.slices[:4]} == set(expected)
    for own in division.slices[:4]:
        low, high = expected[own.value]
        assert own.members.tolist() == ((numbers > low - 0.01) & (numbers < high)).tolist()
    assert [own.value for own in division.slices[4:]] == list("0123")  # few numbers: as they are
    assert [remark.is_cut for remark in division.remarks] == [True, False]


def test_equal_numbers_stay_in_one_quartile():
    division = division_of(exposure=["0"] * 60 + [str(index) for index in range(1, 41)])
    assert [(own.value, int(own.members.sum())) for own in division.slices] == [
        ("0 – 0", 60), ("1 – 15", 15), ("16 – 40", 25)]


def test_what_no_two_values_divide_is_left_out(capsys):
    values = {"camera": ["A"] * 20 + ["B"] * 20, "lens": ["x"] * 33 + ["y"] * 7}
    values["name"] = list(map(str, map(chr, range(65, 105))))
    assert {own.attribute for own in division_of(**values).slices} == {"camera"}
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "lens, name: no two values that at least 10 of the 40" in err
    del values["camera"]
    with pytest.raises(InputError, match="lens, name: no two values .* measure on more photos"):
        division_of(**values)


# --- the table --------------------------------------------------------------------------

@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Samples of three photos, and the path of a table that does not exist."""
    for name in ("glass/1.jpg", "glass/2.jpg", "metal/3.jpg"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return (Samples("data", ["glass/1.jpg", "glass/2.jpg", "metal/3.jpg"], np.int32([0, 0, 1])),
            tmp_path / "table.csv")


@pytest.mark.parametrize("prefix", ["", "data/", "./data/", "data\\"])
def test_paths_of_the_table(photos, capsys, prefix):
    samples, table = photos
    table.write_text(f"path,label,camera,,site\n{prefix}metal/3.jpg,metal, A ,0,x\n"
                     f"{prefix}glass/1.jpg,glass,B,1,\n")
    assert read_table(str(table), samples) == [("camera", ["B", "", "A"]), ("site", ["", "", "x"])]
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "does not list 1 of the 3 photos" in err


def test_an_absolute_path_and_one_that_leads_nowhere(photos, tmp_path, capsys):
    samples, table = photos
    (tmp_path / "data" / "metal" / "4.jpg").write_bytes(b"")  # a photo of another part
    rows = [f"{tmp_path}/data/{name},A" for name in samples.file_names]
    table.write_text("\n".join(["path,camera", *rows, *rows, "metal/4.jpg,B", "gone.jpg,C"]))
    assert read_table(str(table), samples) == [("camera", ["A"] * 3)]
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "1 of 8 paths lead to no photo, first " in err
    assert f"{table}:9: 'gone.jpg'" in err


@pytest.mark.parametrize("text, words", [
    ("camera\nA\n", "needed: path"), ("path\nglass/1.jpg\n", "at least one attribute"),
    ("path,label\nglass/1.jpg,glass\n", "at least one attribute"),
    ("path,camera\n", "has no line but the header"),
    ("path,camera\n9.jpg,A\n8.jpg,A\n", "none of its 2 paths is one of the 3 photos measured"),
    ("path,camera\nglass/1.jpg,A\n./glass/1.jpg,B\n", "'./glass/1.jpg' has the camera 'B', and"),
    ("path,camera\nglass/1.jpg\n", "as many values"), (None, "cannot be read"),
])
def test_bad_tables(photos, text, words):
    samples, table = photos
    if text is not None:
        table.write_text(text)
    with pytest.raises(InputError) as caught:
        read_table(str(table), samples)
    assert words in str(caught.value) and str(table) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_groups_are_an_attribute(photos, capsys):
    samples, table = photos
    table.write_text("path,camera\nglass/1.jpg,A\nglass/2.jpg,A\nmetal/3.jpg,B\n")
    classes = ("glass", "metal")
    found = read_attributes(str(table), r"pattern:/([12])\.", samples, "data", classes)
    assert found == [("camera", ["A", "A", "B"]), (r"--group pattern:/([12])\.", ["1", "2", ""])]
    assert "1 of 3 photos do not match; they are left out of its slices" in capsys.readouterr().err
    assert read_attributes(None, None, samples, "data", classes) == []
    with pytest.raises(InputError, match="do not match; name another rule"):
        read_attributes(None, "pattern:x", samples, "data", classes)
    with pytest.raises(InputError, match="all 3 photos are in one group"):
        read_attributes(None, "pattern:jpg", samples, "data", classes)


# --- report -----------------------------------------------------------------------------

@pytest.fixture
def many(tmp_path):
    """A run, 60 photos of three classes, and a table: of camera BC one photo in five is right."""
    write_samples(tmp_path / "data", 20, dict(zip("abc", COLORS.values())))
    data = tmp_path / "data"
    path = make_run(tmp_path / "run", ("a", "b", "c"))
    names = sorted(each.name for each in data.glob("*.png"))
    rows, lines = [], []
    for index, name in enumerate(names):
        class_id = int((data / name).with_suffix(".txt").read_text().rsplit(",", 1)[1])
        camera = ("A<", "BC")[index % 2]
        is_right = camera == "A<" or index % 10 == 1
        rows.append(np.eye(3)[class_id if is_right else (class_id + 1) % 3])
        lines.append(f"{name},{camera},{index % 3},lens{index}")
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["path,camera,site,lens", *lines]))
    return path, data, np.float32(rows), table


def test_report(many, monkeypatch, capsys):
    path, data, rows, table = many
    words = ("--attributes", table, "--group", r"pattern:_(\d)", "--lang", "en")
    assert report(monkeypatch, path, data, rows, *words, "--json") == 0
    found = json.loads(capsys.readouterr().out)["slices"]
    first = found["rows"][0]
    assert (first["attribute"], first["value"], first["verdict"]) == ("camera", "BC", "worse")
    assert first["photos"] == 30 and first["p_corrected"] < 1e-4
    attributes = [remark["attribute"] for remark in found["attributes"]]
    assert attributes[:3] == ["camera", "site", "lens"] and attributes[3].startswith("--group ")
    page = Page(path / "report.html")
    header, *cells = page.tables["slices"]
    assert len(cells) == len(found["rows"]) and len(header) == 9
    assert cells[0][0] == "camera" and cells[0][1] == "BC" and cells[0][2] == "worse"
    low, high = first["accuracy_interval"]
    assert cells[0][5] == f"{first['accuracy']:.1%}{low:.1%} to {high:.1%}"
    assert cells[0][7].startswith(f"{first['difference'] * 100:+.1f}")
    text = "".join(page.texts)
    assert f"worse on camera: BC ({first['accuracy']:.1%} right; " in text
    assert "A<" in text and "<C" not in page.text.replace("A&lt;", "")
    assert "lens" in text and "#slices" in page.all("href")
    assert page.text.count('<td class="chart whole"><svg role="img" aria-label=') == len(cells)


def test_the_card_of_an_export_has_the_slices_of_these_weights(many, monkeypatch, capsys):
    path, data, rows, table = many
    assert report(monkeypatch, path, data, rows, "--attributes", table, "--json") == 0
    first = json.loads(capsys.readouterr().out)["slices"]["rows"][0]
    weights = checksum(path / run_folder.BEST)
    found = read_slices(str(path), weights)
    assert found["photos"] == 60 and found["rows"][0]["p_value"] == first["p_value"]
    card = model_card(DESCRIPTION, {}, "none", found)
    low, high = first["accuracy_interval"]
    assert "## Slices\n\nMeasured on 60 photos that it was not trained on." in card
    assert (f"| camera | BC | 30 | {first['accuracy']:.3f} | {low:.3f} to {high:.3f} | "
            f"{first['expected_accuracy']:.3f} | worse |\n") in card
    assert "| camera | A&lt; | 30 |" in card and card.index("## Slices") > card.index("## Scores")
    assert "## Slices" not in model_card(DESCRIPTION, {}, "none")
    assert read_slices(str(path), "other weights") is None
    for text in ("{", "[]", '{"weights": 1}'):
        (path / NAME).write_text(text)
        assert read_slices(str(path), weights) is None


def test_photos_trained_on_leave_no_slices(many, monkeypatch, capsys):
    path, data, rows, table = many
    samples = read_samples(str(data), ("a", "b", "c"))
    write_trained_on(str(path), samples.select(np.array([3])))
    assert report(monkeypatch, path, data, rows, "--attributes", table) == 0
    assert not (path / NAME).exists()


def test_report_as_text_has_three_lines_at_most(many, monkeypatch, capsys):
    path, data, rows, table = many
    assert report(monkeypatch, path, data, rows, "--attributes", table) == 0
    out = capsys.readouterr().out.splitlines()
    start = out.index(next(line for line in out if " slices by camera, site" in line))
    assert out[start + 1].startswith("worse than the rest at the same classes: camera BC (0.")
    assert out[start + 2].startswith("better than the rest at the same classes: camera A< (")
    assert out[start + 3].startswith(("no answer", "page"))


def test_nothing_stands_out(many, monkeypatch, capsys):
    path, data, rows, table = many
    right = np.float32(np.eye(3)[np.repeat([0, 1, 2], 20)])
    assert report(monkeypatch, path, data, right, "--attributes", table, "--lang", "zh") == 0
    assert "no slice stands out: " in capsys.readouterr().out
    text = "".join(Page(path / "report.html").texts)
    assert "没有哪一组特别突出" in text and "四分位" not in text


def test_without_the_options_there_is_no_section(many, monkeypatch, capsys):
    path, data, rows, _ = many
    assert report(monkeypatch, path, data, rows, "--json") == 0
    assert "slices" not in json.loads(capsys.readouterr().out)
    assert "slices" not in Page(path / "report.html").tables


def test_a_bad_table_ends_the_report_before_the_work(many, monkeypatch, capsys):
    path, data, rows, table = many
    table.write_text("path,camera\nnowhere.png,A\n")
    assert report(monkeypatch, path, data, rows, "--attributes", table) == 2
    out, err = capsys.readouterr()
    assert out == "" and "none of its 1 paths" in err and not (path / "report.html").exists()


def test_what_stands_out_most_is_named_first():
    """Rows from the worst to the best: four worse ones, and two better ones."""
    rows = [{"attribute": "site", "value": name, "pooled": 0, "accuracy": accuracy,
             "accuracy_interval": (0.1, 0.95), "difference": 0, "difference_interval": (0, 0),
             "expected_accuracy": 0.6, "p_corrected": 0, "verdict": verdict}
            for name, accuracy, verdict in zip(
                "abcdefg", (0.2, 0.3, 0.35, 0.4, 0.6, 0.8, 0.9),
                ["worse"] * 4 + ["can't tell"] + ["better"] * 2)]
    measured = {"tests": 7, "attributes": [], "rows": rows}
    _, worse, better = slice_section.text_lines(measured, slice_section.THAN_REST)
    assert worse == ("worse than the rest at the same classes: site a (0.2000 instead of 0.6000); "
                     "site b (0.3000 instead of 0.6000); site c (0.3500 instead of 0.6000); "
                     "and 1 more")
    assert better.endswith("site g (0.9000 instead of 0.6000); site f (0.8000 instead of 0.6000)")
    (kind, worse), (other_kind, better) = slice_section.page_values(
        measured, texts_of("en"))["sentences"]
    assert (kind, other_kind) == ("worse", "better")
    assert [worse.index(f"site: {name}") for name in "abcd"] == sorted(
        worse.index(f"site: {name}") for name in "abcd")
    assert better.index("site: g") < better.index("site: f")


def test_remarks_in_both_languages():
    division = division_of(
        camera=["A"] * 30 + ["B"] * 25 + ["c"] * 5,
        speed=[*map(str, range(55)), *[""] * 5],
        lens=["x"] * 60,
        site=[f"s{index // 5}" for index in range(50)] + ["t"] * 10,
    )
    measured = measure(division, np.arange(60) % 2 > 0, np.zeros(60, int))
    for language, words in {
        "en": ["camera: 5 photos have values that fewer than 10 share", "speed: numbers, cut",
               "speed: not known of 5 photos", "lens: left out"],
        "zh": ["camera：有 5 张照片的取值不足 10 张", "speed：数值，按四分位数分成四组",
               "speed：有 5 张照片缺", "lens：没有两种取值"],
    }.items():
        values = slice_section.page_values(measured, texts_of(language))
        assert [remark[: len(start)] for remark, start in zip(values["remarks"], words)] == words
        assert len(values["remarks"]) == 4 and len(values["sentences"]) == 1
        pooled = texts_of(language)("report.slices_pooled", count=10)
        assert pooled in [row["value"] for row in values["rows"]]


# --- compare ----------------------------------------------------------------------------

def test_compare(two, tmp_path, capsys):  # noqa: F811
    words = two(20, 4)
    # 60 both right, then 20 only A, 4 only B, 10 neither: site y has what only A names right.
    sites = ["x"] * 50 + ["y"] * 30 + ["z"] * 14
    table = tmp_path / "sites.csv"
    lines = [f"{index:04}.png,{site}" for index, site in enumerate(sites)]
    table.write_text("\n".join(["path,site", *lines]))
    found, _ = done(capsys, *words, "--attributes", table, "--group", r"pattern:(\d)\.png")
    rows = {row["value"]: row for row in found["slices"]["rows"] if row["attribute"] == "site"}
    assert {name: row["images"] for name, row in rows.items()} == {"x": 50, "y": 30, "z": 14}
    assert (rows["y"]["only_first"], rows["y"]["only_second"]) == (20, 0)
    assert rows["y"]["difference"] == pytest.approx(-20 / 30)
    assert rows["y"]["difference_interval"] == pytest.approx(
        intervals.paired_difference(20, 0, 30))
    all_rows = found["slices"]["rows"]
    assert found["slices"]["tests"] == len(all_rows)
    p_values = [mcnemar([[0, row["only_first"]], [row["only_second"], 0]]).pvalue
                if row["only_first"] + row["only_second"] else 1 for row in all_rows]
    _, expected, *_ = multipletests(p_values, method="holm")
    assert [row["p_corrected"] for row in all_rows] == pytest.approx(expected, abs=1e-9)
    assert all_rows[0] == rows["y"]
    assert {name: row["verdict"] for name, row in rows.items()} == {
        "x": "can't tell", "y": "worse", "z": "can't tell"}
    status, out, _ = go(capsys, *words, "--attributes", table)
    lines = out.splitlines()
    assert status == 0 and lines[-2] == "3 slices by site, corrected for 3 comparisons"
    assert lines[-1].startswith("B is worse than A: site y (-0.6667, 95 % interval -0.")


def test_a_verdict_that_does_not_outlast_the_correction():
    """Six of six differ: p is 2 / 64, and with two slices twice that."""
    division = division_of(site=["x"] * 20 + ["y"] * 20)
    first, second = np.zeros(40, bool), np.arange(40) < 6

    def compare_two(members):
        return compare.measure(first[members], second[members])

    rows = slices.measure_paired(division, compare_two)["rows"]
    assert [row["value"] for row in rows] == ["y", "x"]
    assert rows[1]["p_value"] == pytest.approx(2 / 64)
    assert rows[1]["p_corrected"] == pytest.approx(4 / 64)
    assert rows[1]["verdict"] == "can't tell"
