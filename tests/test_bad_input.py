"""What a user can get wrong ends in one line with exit status 2, before Keras is imported."""

import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
from conftest import COLORS, ROOT, without_layout, write_image, write_samples

import run
import save_model
import train
from common.errors import InputError
from config import parser
from data.label_names import write_label_names
from data.samples import write_sample
from prediction import classifier
from runs import checkpoint, run_folder
from runs.training_state import TrainingState
from training import setup

LABELS = tuple(COLORS)


@pytest.fixture(autouse=True)
def no_keras(monkeypatch):
    """Fails a test whose command gets as far as starting Keras."""
    def import_keras():
        pytest.fail("bad input was not refused before Keras")

    for module in (train, classifier, save_model):
        monkeypatch.setattr(module, "import_keras", import_keras)


@pytest.fixture
def refused(tmp_path, capsys):
    """Runs a mode that has to refuse, and returns its line."""
    def refused(mode, *words):
        places = ["--save_dir", tmp_path / "runs"]
        if mode == "train":
            places += ["--log_dir", tmp_path / "logs"]
        elif mode not in ("eval", "predict", "save_pb"):
            places = []
        status = run.main(["--mode", mode, *map(str, [*places, *words])])
        output = capsys.readouterr()
        assert status == 2, output.err
        assert output.out == ""
        line = without_layout(output.err)
        assert line.count("\n") == 1 and line.startswith("run.py: "), output.err
        return line

    return refused


@pytest.fixture
def made(tmp_path, folder):
    """A run as training leaves it, its weights excepted: they are nine bytes of nothing."""
    return make_run(tmp_path, folder)


def make_run(tmp_path, folder, name="made", **changed):
    chosen = parser.parse("train", ["--train_data", folder, "--run", name])._replace(
        input_size=32, epochs=30, learning_rate=0.001, warmup_epochs=1.0,
        save_dir=str(tmp_path / "runs"), log_dir=str(tmp_path / "logs"), **changed,
    )
    path = tmp_path / "runs" / name
    run_folder.create(str(path), chosen, LABELS, False)
    (path / run_folder.BEST).write_bytes(b"no weight")
    (path / run_folder.CHECKPOINT).mkdir()
    return path


def write_text(folder, name, text):
    with open(os.path.join(folder, name), "wb") as file:
        file.write(text if isinstance(text, bytes) else text.encode())


def assert_facts(line, *facts):
    for fact in facts:
        assert str(fact) in line


# --- folders --------------------------------------------------------------------------


def test_no_such_folder(refused, tmp_path, folder, made):
    nowhere = tmp_path / "nowhere"
    for line in (
        refused("train", "--train_data", nowhere, "--labels", f"{folder}/label.json"),
        refused("train", "--train_data", folder, "--val_data", nowhere),
        refused("eval", "--run", made, "--data", nowhere),
        refused("dir2txt", "--source", nowhere, "--target", tmp_path / "new"),
        refused("predict", "--run", made, "--image", nowhere),
    ):
        assert_facts(line, nowhere, "no such")


def test_a_file_where_a_folder_is_needed(refused, folder, tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    line = refused("train", "--train_data", file, "--labels", f"{folder}/label.json")
    assert_facts(line, f"{file}: is a file; a folder or a CSV (.csv) is needed")
    line = refused("train", "--train_data", folder, "--run", "new", "--save_dir", file)
    assert_facts(line, f"--save_dir: {file} is a file")


def test_a_folder_without_samples_says_what_was_looked_for(refused, tmp_path, folder, made):
    empty = tmp_path / "empty"
    empty.mkdir()
    for line in (
        refused("train", "--train_data", empty, "--labels", f"{folder}/label.json"),
        refused("train", "--train_data", folder, "--val_data", empty),
        refused("eval", "--run", made, "--data", empty),
    ):
        assert_facts(line, empty, "no images", ".jpg", ".png")


def test_a_folder_of_other_classes(refused, tmp_path, folder, made):
    source = tmp_path / "photos"
    for name in ("rod", "green"):
        (source / name).mkdir(parents=True)
        write_image(source / name / "1.png")
    labels = f"{folder}/label.json"
    line = refused("train", "--train_data", source, "--labels", labels)
    assert_facts(line, source, "class 'rod'", labels, "red, green, blue", "did you mean red?")
    line = refused("eval", "--run", made, "--data", source)
    assert_facts(line, source, "class 'rod'", made, "red, green, blue", "did you mean red?")


def test_a_folder_of_one_class(refused, tmp_path):
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    write_image(tmp_path / "photos" / "cat" / "1.png")
    line = refused("train", "--train_data", tmp_path / "photos")
    assert_facts(line, tmp_path / "photos", "one class", "at least 2")


def test_training_and_validation_folder_the_same(refused, tmp_path, folder):
    (tmp_path / "link").symlink_to(folder)
    for same in (folder, folder + "/", os.path.join(folder, "..", "data"), tmp_path / "link"):
        line = refused("train", "--train_data", folder, "--val_data", same)
        assert_facts(line, f"--val_data: {same} is the training data")


def test_a_validation_folder_with_other_classes(refused, tmp_path, folder):
    other = write_samples(tmp_path / "other", 1, {"red": (255, 0, 0), "pink": (255, 99, 99)})
    line = refused("train", "--train_data", folder, "--val_data", other)
    assert_facts(line, f"{other}/label.json", "class 'pink'", "red, green, blue")


# --- images and text files ------------------------------------------------------------


def test_images_without_text_files_are_counted_and_ten_named(refused, folder, made):
    for number in range(12):
        write_image(os.path.join(folder, f"new_{number:02}.png"))
    for line in (refused("train", "--train_data", folder),
                 refused("eval", "--run", made, "--data", folder)):
        assert_facts(line, folder, "12 of 24 images have no text file", "new_00.png, ",
                     "new_09.png and 2 more")
        assert "new_10" not in line


def test_text_files_without_images_are_counted_and_ten_named(refused, folder, made):
    for number in range(12):
        write_text(folder, f"new_{number:02}.txt", f"new_{number:02}.png, 0\n")
    for line in (refused("train", "--train_data", folder),
                 refused("eval", "--run", made, "--data", folder)):
        assert_facts(line, folder, "12 text files have no image", "new_00.txt, ",
                     "new_09.txt and 2 more")
        assert "new_10" not in line


@pytest.mark.parametrize(
    "label", ["one", "1.0", "-1", "3", "99999999999999999999", "", "+1", "\u0661"]
)
def test_labels_that_are_none(refused, folder, made, label):
    write_text(folder, "img_1_2.txt", f"img_1_2.png, {label}\n")
    for line in (refused("train", "--train_data", folder),
                 refused("eval", "--run", made, "--data", folder)):
        # the file and the line, the value, the range
        assert_facts(line, f"{folder}/img_1_2.txt:1: ", label, "0 to 2")


@pytest.mark.parametrize("text, facts", [
    ("img_1_1.png, 1\n", ["txt:1", "'img_1_1.png'", "'img_1_2.png'"]),
    ("../img_1_2.png, 1\n", ["txt:1", "'../img_1_2.png'"]),
    ("../data/img_1_2.png, 1\n", ["txt:1", "'../data/img_1_2.png'"]),
    ("img_1_2.png, 1\nimg_1_2.png, 1\n", ["txt:2", "more than one line"]),
    ("img_1_2.png, 1\n\nx", ["txt:2", "more than one line"]),
    ("img_1_2.png 1\n", ["txt:1", "no comma", "'img_1_2.png, CLASS'"]),
    ("", ["txt:1", "'img_1_2.png, CLASS'"]),
    (b"\xff\xfeimg", ["txt:1", "UTF-8"]),
    ("x" * 5000, ["txt:1", "4096 bytes"]),
])
def test_text_files_that_are_wrong(refused, folder, text, facts):
    write_text(folder, "img_1_2.txt", text)
    line = refused("train", "--train_data", folder)
    assert_facts(line, f"{folder}/img_1_2.", *facts)
    assert len(line) < 1000


def test_two_images_of_one_stem(refused, folder):
    write_image(os.path.join(folder, "img_1_2.jpg"))
    line = refused("train", "--train_data", folder)
    assert_facts(line, folder, "img_1_2.jpg", "img_1_2.png", "stem")


# --- label.json -----------------------------------------------------------------------


@pytest.mark.parametrize("text, facts", [
    ('{"0": "a", "2": "b", "3": "c"}', ["id 1 is missing", "0 to 2", "0, 2, 3"]),
    ('{"1": "a", "2": "b", "3": "c"}', ["id 0 is missing"]),
    ('{"0": "a", "01": "b"}', ["id 1 is missing"]),
    ('{"0": "a", "1": "b", "1": "c"}', ["'1'", "twice"]),
    ('{"0": "a", "1": "b", "2": "a"}', ["'a'", "id 0 and id 2"]),
    ('{"0": "a",\n"1": "b",\n', ["label.json:3", "not JSON"]),
    ('{"0": "a",\n"1" "b"}', ["label.json:2", "not JSON"]),
    ("", ["label.json:1", "not JSON"]),
    ('["a", "b"]', ['{"0": "cat"']),
    ("{}", ['{"0": "cat"']),
    ('{"0": "a", "1": 2}', ["id 1", "2 is not a name"]),
    ('{"0": "a", "1": " "}', ["id 1", "not a name"]),
    (b'{"0": "\xff"}', ["UTF-8"]),
    ('{"0": "only"}', ["label 1 has no name", "0 to 0"]),
    ('{"0": NaN, "1": "b"}', ["id 0"]),
    ("[" * 100000, ["label.json"]),
])
def test_label_files_that_are_wrong(refused, folder, text, facts):
    write_text(folder, "label.json", text)
    line = refused("train", "--train_data", folder)
    assert_facts(line, f"{folder}/label.json", *facts)


def test_a_label_file_that_is_not_there(refused, folder, tmp_path):
    line = refused("train", "--train_data", folder, "--labels", tmp_path / "names.json")
    assert_facts(line, tmp_path / "names.json", "No such file")


def test_eval_with_other_names(refused, folder, made):
    write_label_names(folder, ["red", "violet", "blue"])
    line = refused("eval", "--run", made, "--data", folder)
    assert_facts(line, f"{folder}/label.json", "class 'violet'", "red, green, blue", made)


# --- options that only make sense together --------------------------------------------


def test_options_that_do_not_fit_together(refused, folder, tmp_path):
    line = refused("train", "--train_data", folder, "--epochs", 8, "--warmup_epochs", 9)
    assert_facts(line, "--warmup_epochs", "9", "7 of --epochs")
    line = refused("train", "--train_data", folder, "--weights", tmp_path / "nowhere.h5")
    assert_facts(line, "--weights", tmp_path / "nowhere.h5", "imagenet, none")
    line = refused("train", "--train_data", folder, "--weights", "imagnet")
    assert_facts(line, "--weights", "imagnet", "imagenet, none")


def test_top_k_above_the_classes(refused, folder, made):
    line = refused("eval", "--run", made, "--data", folder, "--top_k", 4)
    assert_facts(line, "--top_k", "4", "3 classes")


def test_top_k_above_the_classes_in_predict(refused, folder, made):
    line = refused("predict", "--run", made, "--image", folder, "--top_k", 4)
    assert_facts(line, "--top_k", "4", "3 classes")


def test_too_few_images_to_hold_some_out(refused, tmp_path):
    line = refused("train", "--train_data", write_samples(tmp_path / "few", 1))
    assert_facts(line, tmp_path / "few", "--val_data")


@pytest.mark.parametrize("words", [
    ["--epochs", "0"], ["--batch_size", "0"], ["--input_size", "16"], ["--learning_rate", "nan"],
    ["--learning_rate", "0"], ["--label_smoothing", "1"], ["--random_eraser", "1.5"],
    ["--val_fraction", "0"], ["--warmup_epochs", "-1"], ["--shift", "inf"], ["--seed", "-1"],
])
def test_options_out_of_range(refused, folder, words):
    line = refused("train", "--train_data", folder, *words)
    assert_facts(line, f"{words[0]}: '{words[1]}' is not allowed: it takes a")


# --- runs -----------------------------------------------------------------------------


def test_a_run_folder_that_exists(refused, folder, made):
    before = sorted(os.listdir(made))
    line = refused("train", "--train_data", folder, "--run", "made")
    assert_facts(line, f"{made} exists", "--overwrite", "--resume made")
    assert sorted(os.listdir(made)) == before


def test_overwrite_leaves_what_is_no_run_alone(refused, folder, tmp_path):
    photos, logs = tmp_path / "runs" / "photos", tmp_path / "logs" / "photos"
    for place in (photos, logs):
        place.mkdir(parents=True)
        (place / "precious.txt").write_text("x")
    line = refused("train", "--train_data", folder, "--run", "photos", "--overwrite")
    assert_facts(line, "--overwrite", photos, "not a run")
    assert (photos / "precious.txt").exists()
    assert (logs / "precious.txt").exists()


def test_overwrite_of_a_file(refused, folder, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "notes").write_text("x")
    line = refused("train", "--train_data", folder, "--run", "notes", "--overwrite")
    assert_facts(line, tmp_path / "runs" / "notes")
    assert (tmp_path / "runs" / "notes").read_text() == "x"


def test_a_run_that_is_not_there(refused, folder, made):
    for mode, words in (
        ("eval", ["--run", "mode", "--data", folder]), ("save_pb", ["--run", "mode"]),
        ("predict", ["--run", "mode", "--image", folder]), ("train", ["--resume", "mode"]),
    ):
        assert_facts(refused(mode, *words), "'mode'", "did you mean made?")


@pytest.mark.parametrize("name", ["options.yaml", "label.json", "best.weights.h5"])
def test_a_run_whose_files_are_missing(refused, folder, made, name):
    os.unlink(made / name)
    for mode, words in (("eval", ["--data", folder]), ("predict", ["--image", folder]),
                        ("save_pb", [])):
        line = refused(mode, "--run", made, *words)
        if name != "options.yaml":  # without it the folder is no run at all
            assert_facts(line, name)
        assert_facts(line, made)


def test_a_training_that_did_not_end_cannot_be_exported(refused, made):
    line = refused("save_pb", "--run", made)
    assert_facts(line, made / "check" / "probabilities.json", "--resume made")


@pytest.mark.parametrize("text", [
    "[]", "{", '{"a.png": [0.5, 0.5]}', '{"a.png": [1, 0, 0], "b.png": [1, 0]}', "{}", '{"a": "b"}',
])
def test_a_check_that_does_not_fit_the_labels(refused, made, text):
    (made / "check").mkdir()
    (made / "check" / "probabilities.json").write_text(text)
    assert_facts(refused("save_pb", "--run", made), made / "check" / "probabilities.json")


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize("old, new, facts", [
    ("epochs: 30", "epochs: [30", []),
    ("epochs: 30", "epochs: 0", ["epochs: '0' is not allowed"]),
    ("epochs: 30", "epochs: .nan", ["epochs: '.nan' is not allowed"]),
    ("epochs: 30", "epoch: 30", ["'epoch'", "did you mean epochs?"]),
    ("input_size: 32", "input_size: null", ["input_size is missing"]),
    ("backbone: EfficientNetB0", "backbone: ResNet5", ["'ResNet5'", "did you mean ResNet50?"]),
    ("resize: stretch", "resize: [", []),
])
def test_a_run_whose_options_are_damaged(refused, folder, made, old, new, facts):
    change(made / "options.yaml", old, new)
    for mode, words in (("eval", ["--run", made, "--data", folder]),
                        ("predict", ["--run", made, "--image", folder]),
                        ("save_pb", ["--run", made]), ("train", ["--resume", made])):
        assert_facts(refused(mode, *words), made / "options.yaml", *facts)


@pytest.mark.parametrize("content", [b"", b"\x00\x01", b"- a", b"\xff\xfe"])
def test_a_run_whose_options_are_no_options(refused, made, content):
    (made / "options.yaml").write_bytes(content)
    assert_facts(refused("save_pb", "--run", made), made / "options.yaml")


def test_a_run_whose_labels_are_damaged(refused, folder, made):
    (made / "label.json").write_text('{"0": "red", "2": "blue"}')
    line = refused("eval", "--run", made, "--data", folder)
    assert_facts(line, made / "label.json", "id 1 is missing")


# --- going on -------------------------------------------------------------------------


@pytest.mark.parametrize("words, facts", [
    (["--batch_size", 8], ["--batch_size: 8", "16"]),
    (["--seed", 1], ["--seed: 1", "0"]),
    (["--horizontal_flip", "no"], ["--horizontal_flip: no", "yes"]),
    (["--fill_color", "0,0,0"], ["--fill_color: 0,0,0", "255,255,255"]),
    (["--run", "other"], ["--run: other", "made"]),
])
def test_resume_with_another_option(refused, made, words, facts):
    assert_facts(refused("train", "--resume", "made", *words), made, *facts)


def test_resume_with_another_option_in_a_file(refused, made, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("batch_size: 31\n")
    line = refused("train", "--resume", "made", "--config", file)
    assert_facts(line, "batch_size", "31", "16")


def test_resume_with_results_and_no_checkpoint(refused, made):
    (made / "results.csv").write_text("epoch\n1\n")
    line = refused("train", "--resume", "made")
    assert_facts(line, "--resume", made, "no checkpoint", "--run made --overwrite")


def test_resume_without_the_best_weights(refused, made):
    os.makedirs(made / "checkpoint", exist_ok=True)
    for epochs, steps in ((3, 0), (2, 5)):
        leave_checkpoint(made, epochs, {"best_epoch": 2}, steps)
        os.unlink(made / "best.weights.h5")
        assert_facts(refused("train", "--resume", "made"), made, "best.weights.h5 is missing")
        shutil.rmtree(made / "checkpoint")


def test_resume_with_fewer_epochs(refused, made):
    line = refused("train", "--resume", "made", "--epochs", 29)
    assert_facts(line, "--epochs: 29", made, "30", "--force")


def test_resume_of_a_run_without_its_number_of_epochs(refused, made):
    change(made / "options.yaml", "epochs: 30", "epochs: null")
    line = refused("train", "--resume", "made")
    assert_facts(line, made / "options.yaml", "epochs is missing")


def test_resume_as_another_run(refused, made):
    """Not with --force either: it names the folder."""
    line = refused("train", "--resume", "made", "--run", "other", "--force")
    assert_facts(line, "--run: other", "made")


def leave_checkpoint(path, epochs, state, steps=0):
    """What resuming looks for before it builds the model: state and best weights."""
    nothing = SimpleNamespace(variables=[])
    checkpoint.save(os.path.join(path, "checkpoint"), epochs, steps, nothing, nothing, {},
                    TrainingState.from_json(state))
    with open(os.path.join(path, "best.weights.h5"), "w"):
        pass


def test_resume_takes_the_data_it_began_with(tmp_path, folder, monkeypatch):
    """The project's default folders, both of them, have to be found again."""
    monkeypatch.setattr(setup, "say", lambda line: None)
    shutil.copytree(folder, tmp_path / "datasets" / "train_datasets")
    write_samples(tmp_path / "datasets" / "val_datasets", 2, seed=9)
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    first = setup.prepare(parser.parse("train", ["--run", "first"]))
    assert (len(first.training.file_names), len(first.validation.file_names)) == (12, 6)
    run_folder.create(first.run_path, first.options, first.class_names, False)
    leave_checkpoint(first.run_path, 1, {"data": setup.fingerprint(first), "best_epoch": 1})
    again = setup.prepare(parser.parse("train", ["--resume", "first"]))
    assert (len(again.training.file_names), len(again.validation.file_names)) == (12, 6)
    assert setup.fingerprint(again) == setup.fingerprint(first)
    write_sample("../datasets/val_datasets", "img_0_0.png", 2)
    with pytest.raises(InputError, match="--resume: the images or labels have changed"):
        setup.prepare(parser.parse("train", ["--resume", "first"]))


def test_a_new_image_changes_the_fingerprint(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(setup, "say", lambda line: None)
    words = ["--train_data", folder, "--save_dir", str(tmp_path / "runs"), "--run", "first"]
    before = setup.fingerprint(setup.prepare(parser.parse("train", words)))
    assert setup.fingerprint(setup.prepare(parser.parse("train", words))) == before
    write_sample(folder, "img_1_2.png", 0)
    other_label = setup.fingerprint(setup.prepare(parser.parse("train", words)))
    write_image(os.path.join(folder, "new.png"))
    write_sample(folder, "new.png", 0)
    one_more = setup.fingerprint(setup.prepare(parser.parse("train", words)))
    assert len({before, other_label, one_more}) == 3


# --- images ---------------------------------------------------------------------------


def test_predict_with_what_names_no_image(refused, folder, made, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "notes.txt").write_text("x")
    for pattern in (tmp_path / "*.jpg", tmp_path / "no.jpg", empty, empty / "**" / "*.png"):
        line = refused("predict", "--run", made, "--image", folder, pattern)
        assert_facts(line, "--image", pattern, "no images" if pattern == empty else "no such image")


# --- exported models ------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 99}', '{"format": 1}'])
def test_an_exported_model_with_a_damaged_description(refused, folder, tmp_path, text):
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.json").write_text(text)
    for mode, words in (("eval", ["--data", folder]), ("predict", ["--image", folder])):
        assert_facts(refused(mode, "--run", model, *words), model)


def test_an_exported_model_is_no_run(refused, tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.json").write_text("{}")
    assert_facts(refused("save_pb", "--run", model), model, "exported model", "a run is needed")
    assert_facts(refused("train", "--resume", model), model, "exported model", "a run is needed")


# --- really no TensorFlow -------------------------------------------------------------


@pytest.mark.parametrize("case", ["labels", "same", "exists", "predict"])
def test_tensorflow_is_not_imported(case, tmp_path, folder, made):
    words = {
        "labels": ["--mode", "train", "--train_data", folder],
        "same": ["--mode", "train", "--train_data", folder, "--val_data", folder],
        "exists": ["--mode", "train", "--train_data", folder, "--run", "made"],
        "predict": ["--mode", "predict", "--run", "made", "--image", str(tmp_path / "*.jpg")],
    }[case]
    if case == "labels":
        write_text(folder, "img_0_0.txt", "img_0_0.png, 7\n")
    program = (
        "import json, run, sys\n"
        "status = run.main(json.loads(sys.argv[1]))\n"
        "print(status, [name for name in ('tensorflow', 'keras') if name in sys.modules])\n"
    )
    words += ["--save_dir", str(tmp_path / "runs")]
    process = subprocess.run(
        [sys.executable, "-c", program, json.dumps(words)], cwd=ROOT, capture_output=True,
        text=True, timeout=60,
    )
    assert process.stdout == "2 []\n"
    assert process.stderr.count("\n") == 1 and process.stderr.startswith("run.py: ")


def test_an_input_error_is_no_run_error():
    assert InputError("x").status == 2
