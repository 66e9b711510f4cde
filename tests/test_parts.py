"""Parts of a data set: shares, what stays where it is, and the table."""

import csv
import json
import os
import shutil

import numpy as np
import pytest
from conftest import write_image
from test_bad_input import leave_checkpoint

import run as front_door
from common.errors import InputError
from config import parser
from data import parts, parts_table
from data.geometry import Preprocessing
from data.labelled_data import read_labelled
from data.part_assignment import assign, whole_shares
from data.parts import NEW, PARTS
from other import benchmark, calibrate
from other.reporting import report_gallery
from prediction.classifier import Answer, Classifier
from runs import reference_images, run_folder
from runs.margin_files import write_trained_on
from training import setup

SHARES = (0.8, 0.1, 0.1)


def photos(folder, **counts):
    """Class folders of noise of their own; returns the folder as str."""
    for number, (class_name, count) in enumerate(counts.items()):
        os.makedirs(folder / class_name, exist_ok=True)
        for photo in range(count):
            path = folder / class_name / f"{os.path.basename(class_name)}_{photo}.png"
            color = np.random.default_rng((number, photo)).integers(30, 220, 3)
            write_image(path, color, seed=(number, photo))
    return str(folder)


def update(data, **options):
    samples = read_labelled(data).samples
    found = parts.update(data, samples, **options)
    return dict(zip(samples.file_names, [PARTS[part] for part in found.parts])), found


def table(data):
    with open(parts.table_path(data), encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


# --- shares ------------------------------------------------------------------------------


def test_whole_shares_by_hand():
    found = {count: whole_shares(count, SHARES).tolist() for count in range(1, 12)}
    assert found == {
        1: [1, 0, 0], 2: [1, 1, 0], 3: [2, 1, 0], 4: [3, 1, 0], 5: [4, 1, 0], 6: [4, 1, 1],
        7: [5, 1, 1], 8: [6, 1, 1], 9: [7, 1, 1], 10: [8, 1, 1], 11: [9, 1, 1],
    }
    assert whole_shares(10, (0.7, 0.3, 0)).tolist() == [7, 3, 0]
    assert whole_shares(3, (0.5, 0.25, 0.25)).tolist() == [1, 1, 1]


def test_every_count_is_within_one_photo_of_its_share():
    generator = np.random.default_rng(0)
    for count in [*range(1, 200), 9_999]:
        for shares in (SHARES, (0.6, 0.2, 0.2), (0.9, 0.1, 0), generator.dirichlet((8, 1, 1))):
            found = whole_shares(count, shares)
            assert found.sum() == count and (found >= 0).all()
            assert np.abs(found - np.multiply(count, shares)).max() <= 1 + 1e-6, (count, shares)


@pytest.mark.parametrize("seed", range(20))
def test_shares_of_skewed_classes(seed):
    """10 to 10,000 photos of up to 30 classes of very different size, each a group of its own."""
    generator = np.random.default_rng(seed)
    count = int(10 ** generator.uniform(1, 4))
    weights = generator.pareto(1, generator.integers(1, 30)) + 0.01
    class_ids = generator.choice(len(weights), count, p=weights / weights.sum())
    shares = SHARES if seed % 2 else (0.7, 0.15, 0.15)
    found = assign(generator.permutation(count), class_ids, shares, np.full(count, NEW))
    for class_id in np.unique(class_ids):
        own = np.bincount(found[class_ids == class_id], minlength=3)
        assert np.abs(own - own.sum() * np.array(shares)).max() <= 1 + 1e-6
        assert own[0] > 0


@pytest.mark.parametrize("seed", range(20))
def test_groups_stay_together_and_what_has_a_part_keeps_it(seed):
    generator = np.random.default_rng(seed)
    count = 400
    class_ids = generator.integers(0, 4, count)
    groups = generator.integers(0, 250, count)
    first = assign(groups[:300], class_ids[:300], SHARES, np.full(300, NEW))
    old = np.concatenate([first, np.full(100, NEW)])
    found = assign(groups, class_ids, SHARES, old)
    assert (found[:300] == first).all() and (found >= 0).all()
    for group in np.unique(groups):
        assert len(np.unique(found[groups == group])) == 1
    # New photos fill what is missing: all together the shares come near again.
    assert np.abs(np.bincount(found, minlength=3) / count - SHARES).max() < 0.03


def test_a_group_of_most_of_its_class_trains():
    groups = np.array([0, 0, 0, 0, 0, 0, 1, 2, 3, 4])
    found = assign(groups, np.zeros(10, int), (0.2, 0.4, 0.4), np.full(10, NEW))
    assert (found[:6] == 0).all() and set(found[6:]) == {1, 2}


# --- the table ---------------------------------------------------------------------------


def test_the_table_is_beside_the_photos_and_no_photo_is_read_twice(tmp_path, monkeypatch):
    data = photos(tmp_path / "data", glass=10, metal=20)
    by_name, found = update(data)
    assert found.added == 30
    for class_name, count in (("glass", 10), ("metal", 20)):
        own = [part for name, part in by_name.items() if name.startswith(class_name)]
        assert [own.count(part) for part in PARTS] == [count * 8 // 10, count // 10, count // 10]
    rows = table(data)
    assert {row["path"]: row["part"] for row in rows} == {
        name.replace(os.sep, "/"): part for name, part in by_name.items()
    }
    assert all(row["group"] == row["hash"] for row in rows)  # no near copies
    monkeypatch.setattr(parts, "read_groups", None)
    again, found = update(data)
    assert again == by_name and found.added == 0
    assert found.contents == [row["hash"] for row in rows]


def test_photos_renamed_moved_changed_and_added(tmp_path):
    data = photos(tmp_path / "data", glass=20, metal=20)
    before, _ = update(data)
    root = tmp_path / "data"
    os.rename(root / "glass" / "glass_3.png", root / "glass" / "renamed.png")
    os.rename(root / "glass" / "glass_4.png", root / "metal" / "moved.png")
    write_image(root / "metal" / "metal_5.png", (10, 250, 10), seed=99)  # another picture
    photos(root, glass=40, metal=0, paper=10)
    os.unlink(root / "glass" / "glass_7.png")
    after, found = update(data)
    renamed = {"glass_3.png": "glass/renamed.png", "glass_4.png": "metal/moved.png"}
    for name, part in before.items():
        name = renamed.get(os.path.basename(name), name).replace("/", os.sep)
        if not name.endswith("glass_7.png"):
            assert after[name] == part, name
    assert found.added == 20 + 10  # photos 3 and 4 are there again under their old names
    one, two = (os.path.join("glass", name) for name in ("glass_3.png", "renamed.png"))
    assert after[one] == after[two]
    gone = [row for row in table(data) if row["path"] == "glass/glass_7.png"]
    assert [row["part"] for row in gone] == [before[os.path.join("glass", "glass_7.png")]]
    photos(root, glass=8)  # it comes back
    assert update(data)[0][os.path.join("glass", "glass_7.png")] == gone[0]["part"]


def test_near_copies_share_a_part_and_a_group(tmp_path):
    data = photos(tmp_path / "data", glass=12, metal=12)
    root = tmp_path / "data"
    for number in range(12):
        shutil.copy(root / "glass" / f"glass_{number}.png", root / "glass" / f"copy_{number}.png")
    by_name, _ = update(data)
    rows = {row["path"]: row for row in table(data)}
    for number in range(12):
        one, two = (rows[f"glass/{name}_{number}.png"] for name in ("glass", "copy"))
        assert (one["part"], one["group"], one["hash"]) == (
            two["part"], two["group"], two["hash"])


def test_new_photos_take_the_shares_that_the_others_have(tmp_path):
    data = photos(tmp_path / "data", glass=20)
    update(data, shares=(0.5, 0.25, 0.25))
    photos(tmp_path / "data", glass=40)
    by_name, _ = update(data)
    assert [list(by_name.values()).count(part) for part in PARTS] == [20, 10, 10]


def test_a_csv_has_its_table_beside_it(tmp_path):
    folder = photos(tmp_path / "photos", glass=10, metal=10)
    data = tmp_path / "list.csv"
    rows = [f"photos/{c}/{c}_{n}.png,{c}" for c in ("glass", "metal") for n in range(10)]
    data.write_text("path,label\n" + "\n".join(rows) + "\n")
    by_name, found = update(str(data))
    assert found.path == str(tmp_path / "list.splits.csv") and os.path.exists(found.path)
    assert list(by_name.values()).count("test") == 2
    assert not os.path.exists(parts.table_path(folder))


def test_the_table_is_not_a_stray_file(tmp_path, capsys):
    data = photos(tmp_path / "data", glass=10, metal=10)
    update(data)
    capsys.readouterr()
    read_labelled(data)
    assert "left out" not in capsys.readouterr().err


@pytest.mark.parametrize("line, said", [
    ("a,b.png,learn,a,1,2", ":2: the part is 'learn'; allowed: train, val, test"),
    ("a,b.png,train", ":2: has fewer values"),
])
def test_a_damaged_table_is_refused(tmp_path, line, said):
    data = photos(tmp_path / "data", glass=3, metal=3)
    with open(parts.table_path(data), "w") as file:
        file.write("hash,path,part,group,bytes,modified\n" + line + "\n")
    with pytest.raises(InputError, match=said):
        update(data)


def test_a_table_that_cannot_be_written(tmp_path, monkeypatch, capsys):
    """Without one there is nothing to go by; new photos get the same part each time."""
    data = photos(tmp_path / "data", glass=10, metal=10)

    def refuse(*how):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(parts_table, "write_table", refuse)
        with pytest.raises(InputError, match="splits.csv: cannot be written: Permission denied"):
            update(data)
    update(data)
    monkeypatch.setattr(parts_table, "write_table", refuse)
    os.utime(tmp_path / "data" / "glass" / "glass_0.png")
    update(data)  # as on a copy: nothing is lost, since no photo is new
    photos(tmp_path / "data", glass=15)
    with pytest.raises(InputError, match="cannot be written"):
        update(data)  # training, so the parts have to be kept
    first, _ = update(data, must_keep=False)
    assert "the parts of photos that are new are not kept" in capsys.readouterr().err
    assert update(data, must_keep=False)[0] == first and len(first) == 25
    assert len(table(data)) == 20


def test_a_table_that_a_spreadsheet_has_rounded(tmp_path):
    """Times and hashes are changed there; photos of the same path keep their parts."""
    data = photos(tmp_path / "data", glass=20, metal=20)
    before, _ = update(data)
    with open(parts.table_path(data), encoding="utf-8-sig") as file:
        lines = file.read().splitlines()
    spoilt = [lines[0]]
    for line in lines[1:]:
        content, *cells, _ = line.split(",")
        spoilt.append(",".join(["1.23457E+15", *cells, "1.76981E+18"]))
    with open(parts.table_path(data), "w", encoding="utf-8-sig") as file:
        file.write("\n".join(spoilt) + "\n")
    assert update(data)[0] == before
    assert len({row["hash"] for row in table(data)}) == 40  # put right again


@pytest.mark.parametrize("first", [3, 5])
def test_few_photos_at_first_leave_no_mark_on_the_shares(tmp_path, first):
    """Two, one and none of three are the usual shares, as far as whole photos allow."""
    data = photos(tmp_path / "data", glass=first, metal=first)
    update(data)
    photos(tmp_path / "data", glass=50, metal=50)
    by_name, _ = update(data)
    assert [list(by_name.values()).count(part) for part in PARTS] == [80, 10, 10]


def test_a_part_without_photos(tmp_path):
    data = photos(tmp_path / "data", glass=2, metal=2)
    samples = read_labelled(data).samples
    found = parts.update(data, samples)
    assert len(parts.select(samples, found, "all").file_names) == 4
    with pytest.raises(InputError, match="no photo is in the part test; add photos"):
        parts.select(samples, found, "test")


# --- the modes ---------------------------------------------------------------------------


def go(capsys, *words):
    capsys.readouterr()
    status = front_door.main([str(word) for word in words])
    out, err = capsys.readouterr()
    return status, out, err


def prepare(*words):
    return setup.prepare(parser.parse("train", [str(word) for word in words]))


def names_of(samples):
    return {name.replace(os.sep, "/") for name in samples.file_names}


def test_mode_split(tmp_path, capsys):
    data = photos(tmp_path / "data", glass=20, metal=10)
    words = ("--mode", "split", "--data", data)
    status, out, _ = go(capsys, *words, "--json", "--dry_run")
    assert status == 0 and not os.path.exists(parts.table_path(data))
    status, text, _ = go(capsys, *words, "--shares", "0.6,0.2,0.2", "--workers", 2)
    assert status == 0 and "written: " in text and "with 30 photos new" in text
    assert [line.split() for line in text.splitlines()[1:4]] == [
        ["glass", "12", "4", "4"], ["metal", "6", "2", "2"], ["all", "18", "6", "6"]]
    photos(tmp_path / "data", glass=30)
    status, out, err = go(capsys, *words, "--shares", "0.8,0.2", "--json")
    result = json.loads(out)
    assert result["added"] == 10 and sum(result["parts"].values()) == 40
    assert result["parts"]["test"] == 6  # nothing new in it, and nothing gone
    assert "the photos in it keep their parts" in err


def test_a_class_that_a_part_lacks_is_told(tmp_path, capsys):
    data = photos(tmp_path / "data", glass=20, metal=3)
    _, _, err = go(capsys, "--mode", "split", "--data", data)
    assert "the part test has no photo of metal" in err and "the part val" not in err


def test_training_takes_its_parts(tmp_path, capsys):
    data = photos(tmp_path / "data", glass=20, metal=20)
    ready = prepare("--data", data, "--save_dir", tmp_path)
    rows = {row["path"]: row["part"] for row in table(data)}
    for samples, part in ((ready.training, "train"), (ready.validation, "val")):
        assert names_of(samples) == {path for path in rows if rows[path] == part}
    assert ready.options.train_data == data and ready.options.val_data is None
    said = capsys.readouterr().err
    assert "32 to train, 4 to validate, 4 kept for the test" in said
    assert said.count("one folder per class") == 1  # it was read once
    again = prepare("--train_data", data, "--save_dir", tmp_path)  # which has a table now
    assert names_of(again.training) == names_of(ready.training)
    photos(tmp_path / "data", glass=30)
    more = prepare("--data", data, "--save_dir", tmp_path)
    assert names_of(more.training) > names_of(ready.training)
    assert "10 photos are new and got a part" in capsys.readouterr().err


def test_the_usual_validation_folder_does_not_take_the_place_of_parts(tmp_path, monkeypatch):
    """Else the photos kept for the test would be trained on."""
    monkeypatch.chdir(tmp_path)
    for name in ("DEFAULT_TRAINING", "DEFAULT_VALIDATION"):
        monkeypatch.setattr(setup, name, name.lower())
    photos(tmp_path / "default_training", glass=20, metal=20)
    photos(tmp_path / "default_validation", glass=5, metal=5)
    assert len(prepare("--train_data", "default_training").validation.file_names) == 10
    ready = prepare("--data", "default_training")
    assert ready.options.val_data is None and len(ready.training.file_names) == 32
    named = prepare("--train_data", "default_training", "--val_data", "default_validation")
    assert names_of(named.training) == names_of(ready.training)
    assert len(named.validation.file_names) == 10


def test_a_run_is_not_resumed_with_other_data(tmp_path):
    data, other = (photos(tmp_path / name, glass=20, metal=20) for name in ("data", "other"))
    runs = ("--save_dir", tmp_path / "runs")
    first = prepare("--data", data, *runs, "--run", "one")
    run_folder.create(first.run_path, first.options, first.class_names, False)
    leave_checkpoint(first.run_path, 1, {"data": setup.fingerprint(first), "best_epoch": 1})
    again = prepare("--resume", "one", "--data", data, *runs)
    assert again.training.file_names == first.training.file_names
    with pytest.raises(InputError, match="--train_data"):
        prepare("--resume", "one", "--data", other, *runs)
    assert not os.path.exists(parts.table_path(other))


@pytest.mark.parametrize("name", ["train_data", "val_data"])
def test_data_and_another_folder_exclude_each_other(tmp_path, name):
    with pytest.raises(InputError, match=f"--data, --{name}: one of the two"):
        prepare("--data", tmp_path, f"--{name}", tmp_path)


def test_a_run_older_than_the_table_is_resumed_with_what_it_held_out(tmp_path):
    data = photos(tmp_path / "data", glass=20, metal=20)
    runs = ("--save_dir", tmp_path / "runs")
    first = prepare("--train_data", data, *runs, "--run", "one")
    run_folder.create(first.run_path, first.options, first.class_names, False)
    leave_checkpoint(first.run_path, 1, {"data": setup.fingerprint(first), "best_epoch": 1})
    update(data)
    again = prepare("--resume", "one", *runs)
    assert again.validation.file_names == first.validation.file_names
    assert again.training.file_names == first.training.file_names


@pytest.mark.parametrize("mode", ["eval", "report", "compare", "calibrate", "confusion_matrix"])
def test_models_are_measured_on_a_part(tmp_path, capsys, monkeypatch, mode):
    """The test, but calibrate: it takes validation, so that the test stays new."""
    data = photos(tmp_path / "data", glass=20, metal=20)
    seen = []

    class Stub(Classifier):
        def stream(self, paths, *how):
            seen.append({os.path.relpath(path, data).replace(os.sep, "/") for path in paths})
            return ((path, Answer(np.float32([0.75, 0.25]), 0.5)) for path in paths)

    options = parser.parse("train", ["--weights", "none", "--input_size", "32"])
    run_folder.create(str(tmp_path / "one"), options, ("glass", "metal"), False)
    (tmp_path / "one" / run_folder.BEST).write_bytes(b"")
    stub = Stub(("glass", "metal"), Preprocessing(32), None)
    monkeypatch.setattr(Classifier, "load", lambda *how, **more: stub)
    monkeypatch.setattr(calibrate, "_find_centers", lambda *words: None)
    monkeypatch.setattr(report_gallery, "heat_maps", lambda run, images, classes: np.zeros(
        (len(images), 3, 3), np.float32))
    run = tmp_path / "one"
    words = ["--mode", mode, *((run, run) if mode == "compare" else ("--run", run)), "--data", data]

    def measured(*more):
        seen.clear()
        status, _, err = go(capsys, *words, *more)
        assert status == 0, err
        return seen[0]

    everything = measured()
    assert len(everything) == 40
    status, _, err = go(capsys, *words, "--part", "val")
    assert status == 2 and "splits.csv does not exist; --mode split" in err
    update(data)
    rows = {row["path"]: row["part"] for row in table(data)}
    usual = "val" if mode == "calibrate" else "test"
    assert measured() == {path for path in rows if rows[path] == usual}
    for part in PARTS:
        assert measured("--part", part) == {path for path in rows if rows[path] == part}
    assert measured("--part", "all") == everything


@pytest.mark.parametrize("counts, said, unsaid", [
    ({"glass": 40, "metal": 3}, "training images, metal 2: --sampler balanced", "one training"),
    ({"glass": 12, "metal": 2}, "one training image has the class metal: add photos", "nothing"),
    ({"glass": 12, "glass/old": 12}, "classes of their own: glass/old; move", "--sampler"),
    ({"glass": 12, "glassware/old": 12}, "24 images of 2 classes", "classes of their own"),
])
def test_odd_classes_are_told_before_training(tmp_path, capsys, counts, said, unsaid):
    data = photos(tmp_path / "data", **{name.replace("/", os.sep): counts[name] for name in counts})
    prepare("--train_data", data, "--save_dir", tmp_path)
    err = capsys.readouterr().err
    assert said in err and unsaid not in err


@pytest.mark.parametrize("is_csv", [False, True])
def test_an_export_is_verified_on_the_validation_part(tmp_path, is_csv):
    """Photos of the test stay new; without a table it is whatever was not trained on."""
    folder = data = photos(tmp_path / "data", glass=20, metal=20)
    if is_csv:
        data = f"{folder}.csv"
        names = read_labelled(folder).samples.file_names
        rows = [f"data/{name},{name.split('/')[0]}" for name in names]
        with open(data, "w") as file:
            file.write("\n".join(["path,label", *rows, ""]))
    run = run_folder.Run(str(tmp_path / "run"), parser.parse(
        "train", ["--train_data", str(data), "--input_size", "32"]), ("glass", "metal"))
    samples = read_labelled(data).samples
    training = samples.select(np.arange(4))
    write_trained_on(run.path, training, np.zeros(4, np.uint64))
    assert len(reference_images.validation(run, [])[0]) == 36
    assignment = parts.update(data, samples)
    paths, images = reference_images.validation(run, [])
    wanted = parts.select(samples, assignment, "val").file_names
    wanted = set(wanted) - set(training.file_names)
    assert wanted and len(images) == len(paths) == len(wanted)
    assert {os.path.relpath(path, samples.folder) for path in paths} == wanted


def test_benchmark_measures_on_a_part(tmp_path, capsys):
    data = photos(tmp_path / "data", glass=20, metal=20)

    def names(*words):
        options = parser.parse("benchmark", list(words))
        return benchmark.find_samples("model", options, ("glass", "metal")).file_names

    assert len(names("--data", data)) == 40
    update(data)
    assert len(names("--data", data)) == len(names("--data", data, "--part", "test")) == 4
    assert len(names("--data", data, "--part", "all")) == 40
    with pytest.raises(InputError, match="--part: val: has no effect without --data"):
        names("--part", "val")
