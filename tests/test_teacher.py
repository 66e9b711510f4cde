"""--teacher: what is learned of a larger model's answers, and which teachers are refused."""

import os
import shutil
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from conftest import COLORS, write_image, write_samples
from tiny_backbone import few_blocks

import train
from common.errors import ImageError, InputError
from compute.devices import SINGLE_DEVICE as SINGLE
from config import parser
from data.label_names import write_label_names
from data.splitting import hash_file
from evaluation import known_photos
from modeling import weight_files
from prediction import teacher as teachers
from prediction.classifier import Classifier
from prediction.runtimes import Answers
from runs import run_folder
from training import teacher as lessons
from training.batches import make_batches
from training.fine_tuning import FeatureBatches
from training.run_recorder import RunRecorder
from training.setup import prepare

ODD_ORDER = ("blue", "red", "green")  # the teacher's; the training's is red, green, blue


@pytest.fixture(autouse=True)
def small_network():
    with few_blocks():
        yield


@pytest.fixture
def place(tmp_path):
    """Data to train and validate on, photos without labels, and a run that is to teach."""
    write_samples(tmp_path / "train", 4)
    write_samples(tmp_path / "val", 2, seed=5)
    (tmp_path / "more" / "below").mkdir(parents=True)
    for number in range(6):
        folder = tmp_path / "more" / ("below" if number % 2 else "")
        write_image(folder / f"{number}.png", list(COLORS.values())[number % 3], seed=100 + number)
    write_teacher(tmp_path / "runs" / "large", ODD_ORDER)
    return tmp_path


def write_teacher(path, class_names):
    """A run whose weights nobody reads: the tests answer for it."""
    os.makedirs(path)
    write_label_names(str(path), class_names)
    run_folder.write_options(str(path), parser.parse("train", ["--input_size", "32"]))
    (path / "best.weights.h5").write_bytes(b"weights")


def words(place, *more):
    return [
        "--train_data", str(place / "train"), "--val_data", str(place / "val"),
        "--unlabelled", str(place / "more"), "--teacher", "large", "--weights", "none",
        "--recipe", "scratch", "--input_size", "32", "--batch_size", "5", "--epochs", "3",
        "--workers", "1", "--save_dir", str(place / "runs"), "--log_dir", str(place / "logs"),
        "--run", "small", *more,
    ]


def options(place, *more):
    return parser.parse("train", words(place, *more))


@pytest.fixture
def asked(monkeypatch):
    """Answers by the dominant colour, in the teacher's own order; counts the images."""
    counts = []

    def predict(images):
        counts.append(len(images))
        mean = images.mean(axis=(1, 2))[:, [2, 0, 1]]  # blue, red, green
        powers = np.exp(mean / 40)
        return Answers((powers / powers.sum(axis=1, keepdims=True)).astype(np.float32))

    def load(path, **settings):
        run = run_folder.read(path)
        return Classifier(run.class_names, run.preprocessing, predict)

    monkeypatch.setattr(teachers.Classifier, "load", load)
    return counts


# --- the rows -------------------------------------------------------------------------


def test_rows_by_hand():
    """Half the label, half the answer; no answer leaves the label, no label the answer alone."""
    labels = np.array([[0.9, 0.1], [0.1, 0.9]])
    probabilities = np.array([[0.2, 0.8], [0.0, 0.0], [0.2, 0.8]])
    rows = lessons.lesson_rows(labels, probabilities)
    np.testing.assert_allclose(rows, [[0.55, 0.45], [0.1, 0.9], [0.2, 0.8]], rtol=1e-6)
    assert rows.dtype == np.float32


def test_the_rows_are_those_of_the_batches(place, asked):
    """Mixed with nothing: y, photo by photo, as a loop over the files computes it."""
    setup = lessons.learn_from(*lesson(place, "--label_smoothing", "0.1", "--mixup", "0"))
    both = make_batches(setup, SINGLE)
    training, validation = both
    try:
        assert len(training) == 4  # 12 with labels and 6 without, in batches of 5
        seen = {}
        for index in range(len(training)):
            _, y, weights = training[index]
            assert weights.all()
            positions, _ = training.rows(index)
            seen.update(zip((training.samples.file_names[i] for i in positions), y))
        assert all(row.max() == 1 for row in validation[0][1])  # never the teacher's answers
    finally:
        for batches in both:
            batches.close()
    assert len(seen) == 18
    for name, row in seen.items():
        path = os.path.join(training.samples.folder, name)
        mean = teacher_image(path).mean(axis=(0, 1))
        soft = np.exp(mean / 40)
        soft /= soft.sum()
        if "img_" in name:
            label = np.full(3, 0.1 / 3)
            label[int(os.path.basename(name).split("_")[1])] += 0.9
            soft = (soft + label) / 2
        np.testing.assert_allclose(row, soft, atol=1e-5, err_msg=name)


def teacher_image(path):
    from data.decoding import load
    from data.geometry import Preprocessing

    return load(path, Preprocessing(32, run_folder.preprocessing(
        parser.parse("train", ["--input_size", "32"])).resize)).astype(float)


def test_cached_features_have_the_same_rows(place, asked):
    setup = lessons.learn_from(*lesson(place))
    both = make_batches(setup, SINGLE, augmented=False)
    inputs = keras.Input((32, 32, 3), dtype="uint8")
    body = keras.Model(inputs, keras.ops.mean(keras.ops.cast(inputs, "float32"), axis=(1, 2)))
    try:
        features = FeatureBatches(body, both[0], both[0], str(place))
        x, y, weights = features[3]  # 18 photos in batches of 5
        np.testing.assert_array_equal(y, setup.lesson.rows[15:])
        assert x.shape == (3, 3) and weights.all()
        _, class_ids, _ = features.rows()
        assert class_ids[:12].tolist() == setup.training.class_ids.tolist()
        colors = [int(os.path.basename(name)[0]) % 3 for name in both[0].samples.file_names[12:]]
        assert class_ids[12:].tolist() == colors
    finally:
        for batches in both:
            batches.close()


# --- asking once ----------------------------------------------------------------------


def lesson(place, *more):
    setup = prepare(options(place, *more))
    return setup, train.find_teacher(setup)


def resumed(place, setup):
    """The same training as `--resume` would have it."""
    from dataclasses import replace

    return replace(setup, options=setup.options._replace(resume="small"))


def test_answers_are_kept_and_used_again(place, asked, capsys):
    setup, teacher = lesson(place)
    assert teacher.order.tolist() == [1, 2, 0]
    made = lessons.learn_from(setup, teacher)
    assert sum(asked) == 18
    os.makedirs(place / "runs" / "small")
    made.lesson.write(str(place / "runs" / "small"))
    again = lessons.learn_from(resumed(place, setup), teacher)
    gone = lessons.learn_from(resumed(place, setup), None)
    assert sum(asked) == 18
    for one in (again, gone):
        np.testing.assert_array_equal(one.lesson.rows, made.lesson.rows)
        assert one.photos.file_names == made.photos.file_names
    # another run of this name begins anew
    lessons.learn_from(setup, teacher)
    assert sum(asked) == 36
    (place / "runs" / "large" / "best.weights.h5").write_bytes(b"others")
    other = train.find_teacher(setup)
    assert other.digest != teacher.digest
    lessons.learn_from(resumed(place, setup), other)
    assert sum(asked) == 54 and "other weights now" in capsys.readouterr().err
    write_image(place / "more" / "0.png", (0, 0, 0), seed=1)
    lessons.learn_from(resumed(place, setup), teacher)
    assert sum(asked) == 72
    with pytest.raises(InputError, match="not those for these photos"):
        lessons.learn_from(resumed(place, setup), None)


def test_undecodable_photos_without_labels_are_left_out(place, asked, capsys):
    (place / "more" / "0.png").write_bytes(b"no image")
    setup = lessons.learn_from(*lesson(place, "--max_bad", "0.2"))
    assert len(setup.photos.file_names) == len(setup.lesson.rows) == 17
    assert capsys.readouterr().err.count("left out: ") == 1
    with pytest.raises(InputError, match="1 of 6 images cannot be decoded") as error:
        lessons.learn_from(*lesson(place, "--max_bad", "0.1"))
    assert "\n" not in str(error.value)


def test_photos_that_judge_are_left_out(place, asked, capsys):
    shutil.copy(place / "val" / "img_0_0.png", place / "more" / "x.png")
    shutil.copy(place / "train" / "img_0_0.png", place / "more" / "y.png")
    shutil.copy(place / "more" / "0.png", place / "more" / "z.png")
    setup = prepare(options(place))
    names = {os.path.basename(name) for name in setup.unlabelled.file_names}
    assert names == {f"{number}.png" for number in range(6)}
    err = capsys.readouterr().err
    assert "1 photos validate or are kept for the test: left out" in err
    assert "2 photos are there with a label, or twice: left out" in err


# --- refused in one line --------------------------------------------------------------


def forget(*parts):
    return lambda place: shutil.rmtree(place.joinpath(*parts))


def other_classes(place):
    shutil.rmtree(place / "runs" / "large")
    write_teacher(place / "runs" / "large", ("red", "green", "pink"))


def empty(place):
    shutil.rmtree(place / "more")
    (place / "more").mkdir()


def only_known(place):
    empty(place)
    shutil.copy(place / "train" / "img_0_0.png", place / "more")


def seen(folder):
    def write(place):
        margins = place / "runs" / "large" / "margins"
        margins.mkdir()
        value = hash_file(str(place / folder / "img_0_0.png"))
        (margins / "images.csv").write_text(f"a.png,0,{value:016x}\n")
    return write


@pytest.mark.parametrize("change, more, message", [
    (other_classes, [], "other classes than the training: blue, pink are in one of the two only"),
    (forget("more"), [], "--unlabelled: "), (empty, [], "--unlabelled: .*no images"),
    (only_known, [], "none of the 1 photos is left"),
    (forget("runs", "large"), [], "--teacher: 'large' is neither"),
    (seen("val"), [], "has learned 1 of the 6 validation photos"),
    (None, ["--loss", "focal"], "--loss: focal gives less weight"),
    (None, ["--head", "linear", "--recipe", "auto"], "has no effect with --head linear"),
    (None, ["--run", "large", "--overwrite"], "is the run that is to be trained"),
])
def test_refused_in_a_line(place, asked, change, more, message):
    if change:
        change(place)
    with pytest.raises(InputError, match=message) as error:
        train.fit(options(place, *more))
    assert "\n" not in str(error.value) and not asked


def test_photos_without_labels_need_a_teacher(place):
    shutil.rmtree(place / "runs")
    without = [word for word in words(place) if word not in ("--teacher", "large")]
    with pytest.raises(InputError, match="--unlabelled: .* needs --teacher"):
        prepare(parser.parse("train", without))


def test_a_teacher_that_has_learned_the_same_photos_is_welcome(place, asked):
    seen("train")(place)
    assert train.find_teacher(prepare(options(place)))


def test_where_parts_decide_it_is_said(place, capsys):
    seen("val")(place)
    path = str(place / "runs" / "large")
    value = hash_file(str(place / "val" / "img_0_0.png"))
    teachers.check_photos(path, {5}, {value, 7}, has_parts=True)
    assert "has learned 1 of the 2 test photos" in capsys.readouterr().err


def test_a_training_by_several_processes_is_refused(place):
    given = ["--backend", "jax", "--coordinator", "localhost:1", "--num_processes", "2",
             "--process_id", "0"]
    with pytest.raises(InputError, match="--teacher: answers for all images in one process"):
        prepare(options(place, *given))


# --- trained --------------------------------------------------------------------------


@pytest.mark.training
def test_a_resumed_training_asks_nobody_and_gives_the_same(place, asked, monkeypatch):
    whole = train.fit(options(place, "--run", "whole"))
    assert whole["unlabelled_images"] == 6 and whole["train_images"] == 12
    assert sum(asked) == 18
    end_epoch = RunRecorder.on_epoch_end

    def stop(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt
        end_epoch(self, epoch, logs)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RunRecorder, "on_epoch_end", stop)
        train.fit(options(place))
    assert sum(asked) == 36
    resumed = train.fit(parser.parse("train", [
        "--resume", "small", "--save_dir", str(place / "runs"), "--log_dir", str(place / "logs")]))
    assert sum(asked) == 36
    paths = [os.path.join(run["run"], "best.weights.h5") for run in (whole, resumed)]
    one, two = map(weight_files.read, paths)
    assert one.keys() == two.keys()
    for name in one:
        for first, second in zip(one[name], two[name], strict=True):
            np.testing.assert_array_equal(first, second, err_msg=name)
    for name in ("results.csv", "teacher.npz"):
        one, two = (os.path.join(run["run"], name) for run in (whole, resumed))
        with open(one, "rb") as first, open(two, "rb") as second:
            assert first.read() == second.read(), name
    told = known_photos.tell(resumed["run"], SimpleNamespace(
        folder=str(place / "more"), file_names=["0.png", "2.png"]))
    assert told == (2, 0)


@pytest.mark.training
def test_a_student_learns_from_photos_without_labels(tmp_path, asked):
    """Where labelled photos differ in brightness most, and those that judge in colour alone."""
    place = tmp_path
    levels = {"red": (200, 190, 190), "green": (115, 125, 115), "blue": (50, 50, 60)}
    write_samples(place / "train", 4, levels)
    write_samples(place / "val", 8, seed=5)
    (place / "more").mkdir()
    for number in range(60):
        write_image(place / "more" / f"{number}.png", list(COLORS.values())[number % 3],
                    seed=100 + number)
    write_teacher(place / "runs" / "large", ODD_ORDER)
    head = ("--freeze_epochs", "12", "--epochs", "12", "--cache_features", "--select", "last")
    taught = train.fit(options(place, *head))
    alone = [word for word in words(place, *head) if word not in (
        "--teacher", "large", "--unlabelled", str(place / "more"))]
    alone = train.fit(parser.parse("train", [*alone, "--run", "alone"]))
    assert taught["val_accuracy"] > alone["val_accuracy"]


def test_an_undecodable_photo_has_no_answer(place, asked):
    (place / "more" / "0.png").write_bytes(b"no image")
    setup, teacher = lesson(place)
    probabilities, errors = teacher.answer(setup.unlabelled, 1)
    position, = errors
    assert isinstance(errors[position], ImageError) and not probabilities[position].any()
    assert probabilities.any(axis=1).sum() == 5
