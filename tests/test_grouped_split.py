"""No group on two sides, wherever photos are split by a rule."""

import csv
import itertools
import os

import numpy as np
import pytest
from conftest import write_image

import run as front_door
from common.errors import InputError
from config import parser
from data import parts, parts_table, splitting
from data.labelled_data import read_labelled
from data.part_assignment import assign
from data.parts_table import NEW, PARTS
from data.samples import Samples
from other.data_reconstruction_dir2txt import convert
from training import setup
from training.training_data import read_data

SHARES = (0.8, 0.1, 0.1)


def made_data_set(generator):
    """Class ids, near copies and recordings of a data set of random size and shape."""
    count = int(10 ** generator.uniform(0.7, 2.5))
    class_ids = generator.integers(0, generator.integers(1, 8), count)
    recordings = generator.integers(0, int(10 ** generator.uniform(0.3, 2)), count)
    if generator.random() < 0.5:  # recordings of one class each
        recordings += 1000 * class_ids
    names = [f"r{number}" if number % 7 else "" for number in recordings]
    copies = np.where(generator.random(count) < 0.8, np.arange(count),
                      generator.integers(0, count, count))
    leaders = copies[copies]
    return class_ids, names, np.where(leaders[leaders] == leaders, leaders, np.arange(count))


def sides_of(groups, sides):
    by_group = {}
    for group, side in zip(groups, sides):
        by_group.setdefault(group, set()).add(int(side))
    return by_group


def made_reader(names, hashes, leaders):
    """In place of `splitting.read_groups`."""
    def read_groups(image_paths, workers):
        own = [names.index(os.path.basename(path)) for path in image_paths]
        first = {}
        firsts = [first.setdefault(leaders[one], number) for number, one in enumerate(own)]
        return hashes[own], np.array(firsts)
    return read_groups


@pytest.mark.parametrize("block", range(10))
def test_no_group_is_on_two_sides(block, tmp_path, monkeypatch):
    """1,000 data sets: of named groups and near copies; added photos move no other."""
    monkeypatch.setattr(parts, "_stamp", lambda path: (1, 1))
    for seed in range(100 * block, 100 * block + 100):
        generator = np.random.default_rng(seed)
        class_ids, names, leaders = made_data_set(generator)
        hashes = generator.permutation(len(class_ids)).astype(np.uint64)
        paths = [f"{name}_{number}.png" for number, name in enumerate(names)]
        data = tmp_path / str(seed)
        data.mkdir()
        monkeypatch.setattr(parts, "read_groups", made_reader(paths, hashes, leaders))
        steps = np.sort(generator.integers(0, 3, len(class_ids)))  # photos that come later
        before = {}
        for step in np.unique(steps):
            own = np.flatnonzero(steps <= step)
            samples = Samples(str(data), [paths[one] for one in own], class_ids[own])
            if not before and len({*np.array(names)[own]}) == 1 or not any(
                names[one] for one in own
            ):
                continue  # one group only, or none
            found = parts.update(str(data), samples, rule=r"pattern:^(.+)_\d").parts
            by_name = sides_of([names[one] for one in own], found)
            by_name.pop("", None)
            assert all(len(sides) == 1 for sides in by_name.values()), seed
            if not before:
                assert all(len(one) == 1 for one in sides_of(leaders[own], found).values()), seed
                assert {*class_ids[own]} == {*class_ids[own[found == 0]]}, seed  # all train
            after = dict(zip(samples.file_names, found))
            assert all(after[path] == part for path, part in before.items()), seed
            before = after


@pytest.mark.parametrize("seed", range(100))
def test_val_fraction_holds_whole_groups_out(seed, monkeypatch):
    generator = np.random.default_rng(seed)
    class_ids, names, leaders = made_data_set(generator)
    count, fraction = len(class_ids), generator.choice([0.1, 0.3, 0.5])
    hashes = generator.integers(0, 2**63, count, np.int64).astype(np.uint64) * np.uint64(2)
    monkeypatch.setattr(splitting, "read_groups", lambda *args, **kwargs: (hashes, leaders))
    samples = Samples("", [str(number) for number in range(count)], class_ids.astype(np.int32))
    sides = splitting.split(samples, fraction, names=names)
    held_out = np.isin(samples.file_names, sides[1].file_names)
    assert sum(len(side.file_names) for side in sides) == count
    for groups in (names, leaders):
        by_group = sides_of(groups, held_out)
        by_group.pop("", None)
        assert all(len(one) == 1 for one in by_group.values())
    assert not [one for one in np.unique(class_ids) if held_out[class_ids == one].all()]


def test_shares_are_as_near_as_whole_groups_allow():
    """Of 12 recordings of 10 photos: the best of all ways to give them out."""
    groups = np.repeat(np.arange(12), 10)
    found = assign(groups, np.zeros(120, int), SHARES, np.full(120, NEW))
    distance = np.abs(np.bincount(found, minlength=3) - 120 * np.array(SHARES)).sum()
    ways = ((12 - val - test, val, test) for val, test in itertools.product(range(5), repeat=2))
    best = min(np.abs(10 * np.array(way) - 120 * np.array(SHARES)).sum() for way in ways)
    assert distance == pytest.approx(best)


@pytest.mark.parametrize("sizes, expected", [
    ((30, 30), [30, 30, 0]), ((33, 33, 33), [66, 33, 0]), ((20, 20, 20, 20), [40, 20, 20]),
    ((60, 20, 10), [60, 20, 10]), ((90, 10), [90, 10, 0]), ((50,), [50, 0, 0]),
])
def test_few_groups(sizes, expected):
    """No part is left without photos where training keeps half; by hand."""
    groups = np.repeat(np.arange(len(sizes)), sizes)
    found = assign(groups, np.zeros(sum(sizes), int), SHARES, np.full(sum(sizes), NEW))
    counts = np.bincount(found, minlength=3)
    assert counts[0] == expected[0] and sorted(counts[1:]) == sorted(expected[1:])


# --- the table ---------------------------------------------------------------------------


def recordings(folder, classes=("glass", "metal"), numbers=range(6), photos=5):
    """`CLASS/rNUMBER_PHOTO.png`, noise of its own; returns the folder as str."""
    for (number_of_class, class_name), number in itertools.product(enumerate(classes), numbers):
        os.makedirs(folder / class_name, exist_ok=True)
        for photo in range(photos):
            seed = (number_of_class, number, photo)
            color = np.random.default_rng(seed).integers(30, 220, 3)
            write_image(folder / class_name / f"r{number}_{photo}.png", color, seed=seed)
    return str(folder)


RULE = r"pattern:(r\d+)_"


def table(data):
    with open(parts.table_path(data), encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def parts_of_groups(data):
    by_group = {}
    for row in table(data):
        by_group.setdefault(row["group_name"], set()).add(row["part"])
    return by_group


def test_split_remembers_the_rule(tmp_path, capsys):
    data = recordings(tmp_path / "data")
    assert front_door.main(["--mode", "split", "--data", data, "--group", RULE]) == 0
    before = {row["path"]: row["part"] for row in table(data)}
    assert len(parts_of_groups(data)) == 6
    assert all(len(sides) == 1 for sides in parts_of_groups(data).values())
    assert {row["rule"] for row in table(data)} == {RULE}
    assert parts_table.rule_of(data) == RULE
    # Photos of known recordings and of new ones come later; nobody names the rule again.
    held_out = next(name for name, sides in parts_of_groups(data).items() if sides == {"val"})
    recordings(tmp_path / "data", ("glass", "metal", "paper"), [int(held_out[1:]), 7, 8], 9)
    samples = read_labelled(data).samples
    assert parts.update(data, samples).added == 4 * 2 + 9 + 2 * 9 * 3
    after = {row["path"]: row["part"] for row in table(data)}
    assert all(after[path] == part for path, part in before.items())
    assert all(len(sides) == 1 for sides in parts_of_groups(data).values())
    assert parts_of_groups(data)[held_out] == {"val"}
    with pytest.raises(InputError, match="have parts by pattern.*; delete it to split anew"):
        parts.update(data, samples, rule="date")


def test_a_group_keeps_its_part_when_its_photos_have_left(tmp_path):
    data = recordings(tmp_path / "data")
    parts.update(data, read_labelled(data).samples, rule=RULE)
    held_out = next(name for name, sides in parts_of_groups(data).items() if sides == {"test"})
    for class_name in ("glass", "metal"):
        for photo in range(5):
            os.unlink(os.path.join(data, class_name, f"{held_out}_{photo}.png"))
    write_image(os.path.join(data, "glass", f"{held_out}_99.png"), (200, 60, 60), seed=99)
    samples = read_labelled(data).samples
    assignment = parts.update(data, samples)
    position = samples.file_names.index(os.path.join("glass", f"{held_out}_99.png"))
    assert PARTS[assignment.parts[position]] == "test"


def test_a_renamed_photo_keeps_its_group(tmp_path):
    """Its part cannot change, so the table does not take it for one of the other group."""
    data = recordings(tmp_path / "data")
    parts.update(data, read_labelled(data).samples, rule=RULE)
    sides = parts_of_groups(data)
    held_out, trains = (next(name for name in sides if sides[name] == {part})
                        for part in ("val", "train"))
    os.rename(os.path.join(data, "glass", f"{trains}_0.png"),
              os.path.join(data, "glass", f"{held_out}_77.png"))
    write_image(os.path.join(data, "glass", f"{held_out}_78.png"), (200, 60, 60), seed=78)
    parts.update(data, read_labelled(data).samples)
    assert parts_of_groups(data) == sides
    rows = {row["path"]: row for row in table(data)}
    assert rows[f"glass/{held_out}_77.png"]["group_name"] == trains
    assert rows[f"glass/{held_out}_78.png"]["part"] == "val"


def test_near_copies_join_groups(tmp_path):
    """A copy of a photo of r0 among those of r1: both recordings are on one side."""
    data = recordings(tmp_path / "data", numbers=range(8))
    os.link(os.path.join(data, "glass", "r0_0.png"), os.path.join(data, "glass", "r1_9.png"))
    parts.update(data, read_labelled(data).samples, rule=RULE)
    rows = [row for row in table(data) if row["group_name"] in ("r0", "r1")]
    assert len({row["part"] for row in rows}) == len({row["group"] for row in rows}) == 1


def test_tables_without_a_rule_stay_as_they_were(tmp_path):
    data = recordings(tmp_path / "data")
    parts.update(data, read_labelled(data).samples)
    assert tuple(table(data)[0]) == parts_table.COLUMNS
    assert parts_table.rule_of(data) is None
    with pytest.raises(InputError, match="have parts without one"):
        parts.update(data, read_labelled(data).samples, rule=RULE)


def test_folders_below_classes(tmp_path):
    """The folders are groups, and no classes, once the rule is known; also to every other mode."""
    for class_name in ("glass", "metal"):
        for day in range(5):
            os.makedirs(tmp_path / "data" / class_name / f"day{day}")
            for photo in range(3):
                path = tmp_path / "data" / class_name / f"day{day}" / f"{photo}.png"
                write_image(path, (90, 90, 90), seed=(class_name == "glass", day, photo))
    data = str(tmp_path / "data")
    assert len(read_labelled(data).class_names) == 10
    labelled = read_labelled(data, rule="folder")
    assert labelled.class_names == ("glass", "metal")
    parts.update(data, labelled.samples, rule="folder", class_names=labelled.class_names)
    assert {*parts_of_groups(data)} == {f"day{day}" for day in range(5)}
    assert all(len(sides) == 1 for sides in parts_of_groups(data).values())
    assert read_labelled(data).class_names == ("glass", "metal")  # the table says so
    os.unlink(parts.table_path(data))
    of_a_run = read_labelled(data, ("glass", "metal"), "a run").samples
    assert (of_a_run.class_ids == labelled.samples.class_ids).all()
    target = str(tmp_path / "flat")
    counted = convert(data, target, fractions=(0.6, 0.4), rule="folder", dry_run=True)
    assert counted["classes"] == {"glass": 15, "metal": 15}


def test_added_photos_keep_the_folders_that_are_their_groups(tmp_path):
    def put(folder, class_name, day, first):
        os.makedirs(folder / class_name / day)
        for photo in range(first, first + 3):
            path = folder / class_name / day / f"{photo}.png"
            write_image(path, (90, 90, 90), seed=(len(class_name), int(day[3:]), photo))

    for class_name, day in itertools.product(("glass", "tin"), range(5)):
        put(tmp_path / "data", class_name, f"day{day}", 0)
    data = str(tmp_path / "data")
    assert front_door.main(["--mode", "split", "--data", data, "--group", "folder"]) == 0
    held_out = next(name for name, sides in parts_of_groups(data).items() if sides == {"val"})
    put(tmp_path / "new", "glass", held_out, 10)
    put(tmp_path / "new", "tin", "day7", 20)
    assert front_door.main(["--mode", "add", "--data", data, "--source",
                            str(tmp_path / "new")]) == 0
    assert (tmp_path / "data" / "glass" / held_out / "10.png").exists()
    assert (tmp_path / "data" / "tin" / "day7" / "20.png").exists()
    assert parts_of_groups(data)[held_out] == {"val"}
    assert read_labelled(data).class_names == ("glass", "tin")


def test_training_holds_groups_out(tmp_path):
    data = recordings(tmp_path / "data")
    options = parser.parse("train", ["--train_data", data, "--group", RULE, "--val_fraction",
                                     "0.3", "--save_dir", str(tmp_path / "runs"), "--run", "one"])
    made = setup.prepare(options)
    sides = [{os.path.basename(name).split("_")[0] for name in one.file_names}
             for one in (made.training, made.validation)]
    assert not sides[0] & sides[1] and len(sides[0] | sides[1]) == 6 and len(sides[1]) == 2
    options = parser.parse("train", ["--data", data, "--group", RULE, "--run", "two",
                                     "--save_dir", str(tmp_path / "runs")])
    made = setup.prepare(options)
    assert parts_table.rule_of(data) == RULE
    assert len(made.training.file_names) == 40 and len(made.validation.file_names) == 10
    table_of_another_rule = options._replace(group="date", train_data=data, data=None)
    assert len(read_data(table_of_another_rule._replace(given=frozenset()))[1].file_names) == 40
    with pytest.raises(InputError, match="have parts by pattern"):
        read_data(table_of_another_rule)


def test_dir2txt_keeps_groups_together(tmp_path):
    data, target = recordings(tmp_path / "data"), tmp_path / "target"
    assert front_door.main(["--mode", "dir2txt", "--source", data, "--target", str(target),
                            "--split", "0.6,0.2,0.2", "--group", RULE]) == 0
    by_part = [{name.split("_")[1] if name.startswith(("glass", "metal")) else name.split("_")[0]
                for name in os.listdir(target / part) if name.endswith(".png")}
               for part in ("train_datasets", "val_datasets", "test_datasets")]
    assert sorted(map(len, by_part)) == [1, 1, 4]
    assert len(set.union(*by_part)) == 6
    with pytest.raises(InputError, match="nothing is split; name the fractions with --split"):
        convert(data, str(tmp_path / "other"), rule=RULE)


@pytest.mark.parametrize("rule", ["month", "pattern:", "pattern:(", "csv:", "folder:x", "date:"])
def test_rules_that_are_none(rule, tmp_path):
    with pytest.raises(InputError, match="--group: .* is not allowed: it takes folder, date"):
        parser.parse("split", ["--data", str(tmp_path), "--group", rule])
