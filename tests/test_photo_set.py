"""other/labelling/photo_set.py: labels in every layout, journalled, and undone byte for byte."""

import csv
import os
import threading

import pytest

from common.errors import InputError
from data import csv_labels, file_steps
from data.class_spelling import normalize
from data.image_files import list_folder
from data.labelled_data import read_labelled
from other.labelling.layouts import NO_CLASS, SET_ASIDE
from other.labelling.photo_set import GONE, PhotoSet

OWN = ("labels.log.csv", "labels.steps.jsonl", ".labels.lock")
FOLDERS = ("glass/1.jpg", "glass/2.jpg", "metal/1.jpg", "_unsorted/1.jpg", "_unsorted/a/3.jpg")


def make(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


@pytest.fixture
def folders(tmp_path):
    return make(tmp_path / "photos", {name: name.encode() for name in FOLDERS})


@pytest.fixture
def texts(tmp_path):
    return make(tmp_path / "photos", {
        "label.json": b'{"0": "glass", "1": "metal",\n "2": "paper"}', "1.jpg": b"1",
        "1.txt": b"1.jpg, 0", "2.jpg": b"2", "2.txt": b"2.jpg,1\r\n", "3.jpg": b"3",
        "3.txt": b"3.jpg, 2\n", "4.jpg": b"4", "_unsorted/1.jpg": b"5"})


@pytest.fixture
def table(tmp_path):
    make(tmp_path / "photos", {
        "t.csv": b"path,label,who\r\nim/1.jpg,glass,\"a, b\"\r\nim/2.jpg, metal,c",
        "im/1.jpg": b"1", "im/2.jpg": b"2", "_unsorted/3.jpg": b"3"})
    return tmp_path / "photos" / "t.csv"


def contents(root):
    """The bytes of the data's files, by path; without what the page itself writes."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*")
            if path.is_file() and not path.name.endswith(OWN)}


def position(photos, path):
    return photos.paths.index(path)


def classes(data):
    """dict of path -> class, as every other mode reads them."""
    samples, class_names, _ = read_labelled(str(data))
    return {name.replace(os.sep, "/"): class_names[class_id]
            for name, class_id in zip(samples.file_names, samples.class_ids)}


def test_folders(folders):
    before = contents(folders)
    with PhotoSet(str(folders)) as photos:
        assert photos.class_names == ["glass", "metal"]
        assert photos.counts() == {"glass": 2, "metal": 1, NO_CLASS: 2, SET_ASIDE: 0}
        unsorted = [position(photos, f"_unsorted/{name}") for name in ("1.jpg", "a/3.jpg")]
        photos.label(unsorted, "glass")
        assert classes(folders) == {
            "glass/1.jpg": "glass", "glass/2.jpg": "glass", "glass/1-2.jpg": "glass",
            "glass/3.jpg": "glass", "metal/1.jpg": "metal"}
        assert [photos.paths[i] for i in unsorted] == ["glass/1-2.jpg", "glass/3.jpg"]
        photos.label([position(photos, "glass/2.jpg")], "new class")
        photos.label([position(photos, "metal/1.jpg")], NO_CLASS)
        photos.label([unsorted[1]], SET_ASIDE)
        assert classes(folders) == {"glass/1.jpg": "glass", "glass/1-2.jpg": "glass",
                                    "new class/2.jpg": "new class"}
        assert photos.counts() == {"glass": 2, "new class": 1, NO_CLASS: 1, SET_ASIDE: 1}
        assert contents(folders)["_removed/3.jpg"] == b"_unsorted/a/3.jpg"
    with PhotoSet(str(folders)) as photos:  # another process
        while photos.undo():
            pass
        assert contents(folders) == before and not (folders / "new class").exists()
        assert photos.counts() == {"glass": 2, "metal": 1, NO_CLASS: 2, SET_ASIDE: 0}


def test_sample_format(texts):
    before = contents(texts)
    with PhotoSet(str(texts)) as photos:
        assert photos.names == ["glass", "metal", "paper", NO_CLASS, NO_CLASS]
        photos.label([position(photos, "4.jpg"), position(photos, "_unsorted/1.jpg")], "metal")
        photos.label([position(photos, "1.jpg")], "wood")
        assert classes(texts) == {"1.jpg": "wood", "2.jpg": "metal", "3.jpg": "paper",
                                  "4.jpg": "metal", "1-2.jpg": "metal"}
        photos.label([position(photos, "2.jpg")], SET_ASIDE)
        photos.label([position(photos, "3.jpg")], NO_CLASS)
        assert classes(texts) == {"1.jpg": "wood", "4.jpg": "metal", "1-2.jpg": "metal"}
        assert {"_removed/2.jpg", "_unsorted/3.jpg"} < {*contents(texts)}
        while photos.undo():
            pass
    assert contents(texts) == before


def test_csv(table):
    before = contents(table.parent)
    with PhotoSet(str(table)) as photos:
        photos.label([position(photos, "_unsorted/3.jpg")], "glass")
        photos.label([position(photos, "im/2.jpg"), position(photos, "3.jpg")], "paper")
        assert classes(table) == {"im/1.jpg": "glass", "im/2.jpg": "paper", "3.jpg": "paper"}
        assert b'im/1.jpg,glass,"a, b"\r\n' in table.read_bytes()
        photos.label([position(photos, "im/1.jpg")], SET_ASIDE)
        photos.label([position(photos, "im/2.jpg")], NO_CLASS)
        assert classes(table) == {"3.jpg": "paper"}
        while photos.undo():
            pass
    assert contents(table.parent) == before
    assert (table.parent / "t.labels.log.csv").exists()


def test_loose_photos_are_sorted_into_folders(tmp_path):
    root = make(tmp_path / "photos", {f"{i}.jpg": bytes([i]) for i in range(4)})
    with PhotoSet(str(root), ["wood"]) as photos:
        assert photos.class_names == ["wood"] and photos.names == [NO_CLASS] * 4
        photos.label([0], "wood")
        photos.label([1], "glass")
        assert classes(root) == {"wood/0.jpg": "wood", "glass/1.jpg": "glass"}  # half sorted
        photos.label([2, 3], "wood")
    assert len(classes(root)) == 4


@pytest.mark.parametrize("kind", ["folders", "texts", "table"])
def test_classes_are_renamed_and_merged(kind, request):
    data = request.getfixturevalue(kind)
    root = data if data.is_dir() else data.parent
    if kind == "texts":
        (root / "4.txt").write_bytes(b"4.jpg,2")
    before, old = contents(root), classes(data)
    with PhotoSet(str(data)) as photos:
        photos.rename_class("metal", "can")
        assert sorted(classes(data).values()) == sorted(
            "can" if name == "metal" else name for name in old.values())
        assert "metal" not in photos.class_names and "can" in photos.class_names
        assert not (root / "metal").exists()
        photos.rename_class("glass", "can")
        assert sorted(classes(data).values()) == sorted(
            "can" if name in ("metal", "glass") else name for name in old.values())
        assert "glass" not in photos.class_names
        while photos.undo():
            pass
        assert classes(data) == old and photos.class_names[:2] == ["glass", "metal"]
    assert contents(root) == before


def test_new_class_in_front_of_those_of_the_project_keeps_their_ids(tmp_path):
    """Without a label.json of its own: 0 is cardboard and 1 glass."""
    root = make(tmp_path / "photos", {
        "1.jpg": b"1", "1.txt": b"1.jpg, 0", "2.jpg": b"2", "3.jpg": b"3"})
    with PhotoSet(str(root)) as photos:
        photos.add_class("bottle")
        photos.label([position(photos, "2.jpg")], "glass")
        assert (root / "2.txt").read_bytes() == b"2.jpg, 1\n"
        photos.label([position(photos, "3.jpg")], "bottle")
    assert classes(root) == {"1.jpg": "cardboard", "2.jpg": "glass", "3.jpg": "bottle"}


@pytest.mark.parametrize("kind", ["folders", "texts"])
def test_spelling_of_label_json_makes_no_second_class(kind, request):
    root = request.getfixturevalue(kind)
    (root / "label.json").write_text('{"0": " glass", "1": "metal", "2": "cafe\u0301"}')
    (root / "3.txt").unlink(missing_ok=True)
    with PhotoSet(str(root)) as photos:
        assert photos.class_names == ["glass", "metal", "caf\xe9"]
        photos.label([position(photos, "_unsorted/1.jpg")], "cafe\u0301")
        assert photos.counts()["glass"] == (2 if kind == "folders" else 1)
    assert [*classes(root).values()].count("cafe\u0301") == 1


def test_loose_photos_beside_folders_and_label_json(folders):
    """label.json does not make a folder with folders of classes one of the sample format."""
    (folders / "label.json").write_text('{"0": "metal", "1": "glass"}')
    make(folders, {"new.jpg": b"new", "later.jpg": b"later"})
    with PhotoSet(str(folders)) as photos:
        assert "glass/1.jpg" in photos.paths
        photos.label([position(photos, "new.jpg")], "glass")
    assert classes(folders) == {"glass/1.jpg": "glass", "glass/2.jpg": "glass",
                                "metal/1.jpg": "metal", "glass/new.jpg": "glass"}


def test_photos_that_would_share_a_text_file(texts):
    make(texts, {"_unsorted/5.jpg": b"5", "5.JPG": b"6"})
    with PhotoSet(str(texts)) as photos:
        photos.label([position(photos, "_unsorted/5.jpg")], "glass")
        assert "5-2.jpg" in photos.paths
    (texts / "4.heic").write_bytes(b"4")
    with pytest.raises(InputError, match="4.heic and 4.jpg|4.jpg and 4.heic"):
        PhotoSet(str(texts))


def test_csv_that_names_a_photo_in_unsorted(table):
    table.write_bytes(table.read_bytes() + b"\r\n_unsorted/3.jpg,glass,d\r\n")
    with PhotoSet(str(table)) as photos:
        assert photos.names[position(photos, "_unsorted/3.jpg")] == "glass"
        photos.label([position(photos, "_unsorted/3.jpg")], "paper")
    assert classes(table)["_unsorted/3.jpg"] == "paper"


@pytest.mark.skipif(os.name == "nt", reason="a backslash parts folders")
def test_csv_with_a_backslash_in_a_file_name(table):
    make(table.parent, {"im\\1.jpg": b"0"})
    table.write_bytes(b"path,label\nim\\1.jpg,glass\n")
    with PhotoSet(str(table)) as photos:
        photos.label([0], "metal")
    assert table.read_bytes() == b"path,label\nim\\1.jpg,metal\n"


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX")
@pytest.mark.parametrize("kind", ["texts", "table"])
def test_names_that_no_text_can_hold(kind, request):
    data = request.getfixturevalue(kind)
    root = data if data.is_dir() else data.parent
    name = os.fsdecode(b"_unsorted/\xff.jpg")
    with open(os.path.join(root, name), "wb") as photo:
        photo.write(b"x")
    with PhotoSet(str(data)) as photos:
        with pytest.raises(InputError, match="not UTF-8 cannot be written down"):
            photos.label([position(photos, name)], "glass")
        photos.label([position(photos, name)], SET_ASIDE)


def test_folder_of_a_class_that_is_a_link(folders, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    os.symlink(tmp_path / "elsewhere", folders / "paper")
    with PhotoSet(str(folders)) as photos:
        for name in ("paper", "paper/white"):
            with pytest.raises(InputError, match="is a link to another folder"):
                photos.label([0], name)
    assert not [*(tmp_path / "elsewhere").iterdir()]


def test_photo_that_is_a_relative_link(folders):
    make(folders, {"pool/a.jpg": b"a"})
    os.symlink("../pool/a.jpg", folders / "_unsorted" / "a.jpg")
    with PhotoSet(str(folders)) as photos:
        with pytest.raises(InputError, match="lead nowhere"):
            photos.label([position(photos, "_unsorted/a.jpg")], "waste/glass")
        photos.label([position(photos, "_unsorted/a.jpg")], "glass")
    assert (folders / "glass" / "a.jpg").read_bytes() == b"a"


def test_upper_and_lower_case_where_they_are_one_folder(folders, monkeypatch):
    with PhotoSet(str(folders)) as photos:
        photos.add_class("Metal")  # another folder here
        (folders / "Glass").mkdir()
        monkeypatch.setattr("os.path.samefile", lambda *_: True)
        for change in (photos.add_class, lambda name: photos.rename_class("glass", name)):
            with pytest.raises(InputError, match="'Glass' and 'glass' are one folder"):
                change("Glass")


def test_a_photo_that_another_program_has_moved_back(folders):
    with PhotoSet(str(folders)) as photos:
        photos.label([position(photos, "_unsorted/1.jpg")], "glass")
        os.rename(folders / "glass" / "1-2.jpg", folders / "_unsorted" / "1.jpg")
        photos.rescan()
        photos.undo()
        shown = [path for path, name in zip(photos.paths, photos.names) if name is NO_CLASS]
        assert sorted(shown) == ["_unsorted/1.jpg", "_unsorted/a/3.jpg"]
        assert photos.counts()[NO_CLASS] == 2


def test_spelled_folder_while_another_thread_looks(folders, monkeypatch):
    """A look at the folder that has just begun makes no second folder for a class."""
    os.rename(folders / "glass", folders / "glass ")
    with PhotoSet(str(folders)) as photos:
        def label_first(name):
            monkeypatch.undo()
            photos.label([position(photos, "_unsorted/1.jpg")], "glass")
            return normalize(name)
        monkeypatch.setattr("other.labelling.layouts.normalize", label_first)
        photos.rescan()
    assert not (folders / "glass").exists() and (folders / "glass " / "1-2.jpg").exists()


def test_a_folder_that_cannot_be_read_takes_no_photos_away(folders, monkeypatch):
    with PhotoSet(str(folders)) as photos:
        names = [*photos.names]
        contents_now = list_folder(str(folders))
        unreadable = contents_now._replace(
            images=["metal/1.jpg"], unreadable=[("glass", "Permission denied")])
        monkeypatch.setattr("other.labelling.layouts.list_folder", lambda _: unreadable)
        with pytest.raises(InputError, match="glass: cannot be read: Permission denied"):
            photos.rescan()
        assert photos.names == names


def test_csv_whose_photos_have_all_lost_their_class(table):
    before = contents(table.parent)
    with PhotoSet(str(table)) as photos:
        photos.label([position(photos, "im/1.jpg"), position(photos, "im/2.jpg")], SET_ASIDE)
        photos.rescan()
    with PhotoSet(str(table)) as photos:
        assert photos.counts() == {NO_CLASS: 1, SET_ASIDE: 2}
        photos.undo()
    assert contents(table.parent) == before


def test_a_look_in_the_middle_of_a_step_says_nothing(table, monkeypatch):
    """The photo has moved, the CSV still names it."""
    with PhotoSet(str(table)) as photos:
        edit, looks = file_steps._edit, []

        def look_first(*arguments):
            thread = threading.Thread(target=look)
            thread.start()
            while not started.wait(0.01):
                pass
            edit(*arguments)
            looks.append(thread)

        def look():
            try:
                photos.rescan()
            except InputError as error:
                looks.append(error)

        started, read_csv = threading.Event(), csv_labels.read_csv

        def read(*arguments, **options):
            try:
                return read_csv(*arguments, **options)
            finally:
                started.set()

        monkeypatch.setattr(file_steps, "_edit", look_first)
        monkeypatch.setattr(csv_labels, "read_csv", read)
        photos.label([position(photos, "im/1.jpg")], SET_ASIDE)
        looks[0].join()
        assert len(looks) == 1
        assert photos.counts()["_removed"] == 1


def test_a_name_that_cannot_be_given_is_not_offered(folders):
    with PhotoSet(str(folders), ["glass"]) as photos:
        (folders / "glass" / "1.jpg").unlink()
        with pytest.raises(OSError):
            photos.rename_class("glass", "bottle")
        photos.add_class("wood")
        assert photos.class_names == ["glass", "metal", "wood"]


def test_journal(folders):
    with PhotoSet(str(folders)) as photos:
        photos.label([position(photos, "_unsorted/1.jpg")], "glass")
        photos.label([position(photos, "glass/2.jpg")], "metal")
        photos.undo()
    with open(folders / "labels.log.csv", newline="") as log_file:
        rows = [(row["path"], row["label"], row["new_label"]) for row in csv.DictReader(log_file)]
    assert rows == [("glass/1-2.jpg", "", "glass"), ("metal/2.jpg", "glass", "metal"),
                    ("glass/2.jpg", "metal", "glass")]


def test_what_other_programs_do_is_seen(folders):
    with PhotoSet(str(folders)) as photos:
        version = photos.version
        make(folders, {"_unsorted/new.jpg": b"new", "paper/9.jpg": b"9"})
        (folders / "glass" / "1.jpg").unlink()
        photos.rescan()
        assert photos.counts() == {"glass": 1, "metal": 1, "paper": 1, NO_CLASS: 3, SET_ASIDE: 0}
        changed = {photos.paths[i]: photos.names[i] for i in photos.changed_since(version)}
        assert changed == {"_unsorted/new.jpg": NO_CLASS, "paper/9.jpg": "paper",
                           "glass/1.jpg": GONE}
        version = photos.version
        photos.rescan()
        assert photos.version == version


def test_a_photo_that_is_gone(folders):
    with PhotoSet(str(folders)) as photos:
        here, gone = position(photos, "glass/2.jpg"), position(photos, "glass/1.jpg")
        (folders / "glass" / "1.jpg").unlink()
        before = contents(folders)
        with pytest.raises(InputError, match="glass/1.jpg: is not where it was"):
            photos.label([here, gone], "metal")
        assert contents(folders) == before and photos.names[gone] == GONE


@pytest.mark.parametrize("name", ["", " ", "..", ".hidden", "a\\b", "_unsorted", "_removed", "a/",
                                  "_gone", "x" * 300, "a\nb", "@eadir"])
def test_names_that_no_class_can_have(folders, name):
    with PhotoSet(str(folders)) as photos:
        before = contents(folders)
        if name != SET_ASIDE:
            with pytest.raises(InputError):
                photos.label([0], name)
        with pytest.raises(InputError):
            photos.rename_class("glass", name)
        assert contents(folders) == before


def test_one_process_at_a_time(folders):
    with PhotoSet(str(folders)):
        with pytest.raises(InputError, match="another --mode label has it open"):
            PhotoSet(str(folders))
    PhotoSet(str(folders)).__exit__()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_folder_that_cannot_be_written(folders):
    folders.chmod(0o500)
    with pytest.raises(InputError, match="cannot be written to"):
        PhotoSet(str(folders))
    folders.chmod(0o700)


def test_a_failing_disk_changes_nothing(folders, monkeypatch):
    with PhotoSet(str(folders)) as photos:
        before, names = contents(folders), [*photos.names]
        monkeypatch.setattr("data.file_steps.os.rename", fail)
        with pytest.raises(OSError, match="read-only"):
            photos.label([0, 1], "metal")
        assert contents(folders) == before and photos.names == names and photos.undoable == 0


def fail(*_):
    raise OSError(30, "read-only file system")


def test_two_browsers_at_once(tmp_path):
    count = 60
    root = make(tmp_path / "photos", {f"_unsorted/{i}.jpg": str(i).encode() for i in range(count)})
    with PhotoSet(str(root), ["a", "b"]) as photos:
        def label(name, positions):
            for i in positions:
                photos.label([i], name)
        threads = [threading.Thread(target=label, args=(name, positions)) for name, positions in
                   (("a", range(count)), ("b", range(count)[::-1]), ("a", range(0, count, 2)))]
        for thread in threads:
            thread.start()
        for _ in range(5):
            photos.rescan()
        for thread in threads:
            thread.join()
        found = [path.read_text() for path in root.rglob("*.jpg")]
        assert sorted(found, key=int) == [str(i) for i in range(count)]
        assert [*photos.counts().values()][2:] == [0, 0]
        while photos.undo():
            pass
    assert sorted(os.listdir(root / "_unsorted")) == sorted(f"{i}.jpg" for i in range(count))
