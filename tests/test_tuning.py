"""The search of settings without trainings: space, study, kills, storages, the verdict's sums."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import COLORS, ROOT, write_image
from scipy import stats

from benchmarks.tuning import CASES, draw_answers, false_alarms
from common.errors import InputError
from config import parser
from config.modes import MODES
from config.option_table import OPTIONS
from config.value_types import YES_NO
from evaluation.paired_seeds import compare_seeds
from other import tune
from other.tuning import plan as planning
from other.tuning import study as studies
from other.tuning.space import Dimension, make_dimension, make_space
from other.tuning.trials import Budget

optuna = pytest.importorskip("optuna")
posix = pytest.mark.skipif(os.name == "nt", reason="forks")


# --- the space ------------------------------------------------------------------------


@pytest.mark.parametrize("option", [option for option in OPTIONS.values() if option.search],
                         ids=lambda option: option.name)
def test_every_searched_value_is_allowed(option):
    """The table's own types hold what a search may draw."""
    search = option.search
    if search.low is not None:
        assert search.low < search.high and search.choices is None
        values = (search.low, search.high)
        assert not search.log or search.low > 0
    else:
        values = search.choices or option.type.choices or ()
        assert values or option.type is YES_NO
    for value in values:
        assert option.type.convert(str(value)) == value
    assert option.saved  # what a trial varies is what a run keeps


@pytest.mark.parametrize("name, start, wanted", [
    ("learning_rate", 1e-3, Dimension(1e-5, 0.1, log=True)),
    ("learning_rate", 0.4, Dimension(1e-5, 0.4, log=True)),
    ("learning_rate", 1e-7, Dimension(1e-7, 0.1, log=True)),
    ("weight_decay", 0.0, Dimension(0.0, 0.3)),  # no logarithm of 0
    ("label_smoothing", 0.1, Dimension(0, 0.3)),
    ("freeze_epochs", 9, Dimension(0, 9, is_whole=True)),
    ("batch_size", 16, Dimension(choices=(8, 16, 32, 64))),
    ("batch_size", 48, Dimension(choices=(8, 16, 32, 64, 48))),
    ("horizontal_flip", True, Dimension(choices=(False, True))),
    ("resize", "crop", Dimension(choices=("letterbox", "crop", "stretch"))),
])
def test_dimension(name, start, wanted):
    assert make_dimension(name, start) == wanted


def options_of(*words):
    return parser.parse("train", ["--train_data", "photos", *words])


def test_start_is_what_train_would_do():
    space = make_space(("learning_rate", "dropout", "epochs"), options_of("--weights", "none"), 400)
    assert space.start == {"learning_rate": 1e-3, "dropout": 0.2, "epochs": 30}
    given = options_of("--weights", "none", "--learning_rate", "0.1", "--dropout", "0.5")
    assert make_space(("learning_rate", "dropout"), given, 400).start == {
        "learning_rate": 0.1, "dropout": 0.5}


@pytest.mark.parametrize("words, wanted", [
    (("--weights", "none"), "learning_rate weight_decay label_smoothing random_eraser rotation"),
    ((), "learning_rate layer_decay label_smoothing random_eraser randaugment"),
    (("--layer_decay", "0.7"), "learning_rate label_smoothing random_eraser randaugment"),
    (("--head", "linear"), "input_size pooling resize"),
    (("--freeze_epochs", "3", "--epochs", "3", "--cache_features"),
     "learning_rate weight_decay label_smoothing dropout"),
])
def test_searched_by_itself(words, wanted):
    space = make_space(None, options_of("--backbone", "EfficientNetLite0", *words), 400)
    assert " ".join(space.dimensions) == wanted


def test_choices_that_contradict_the_rest_are_left_out():
    asked = options_of("--backbone", "EfficientNetLite0", "--head", "linear")
    assert make_space(("pooling",), asked, 400).dimensions["pooling"].choices == ("avg", "max")


@pytest.mark.parametrize("names, words, wanted", [
    ("learning_rat", (), "'learning_rat' is not an option; did you mean learning_rate?"),
    ("workers", (), "--workers cannot be searched, only set; options that can be searched: "),
    ("run", (), "--run cannot be searched"),
    ("mixup", ("--batch_size", "1"), "mixup 1 is not possible: --mixup: 1 mixes pairs"),
    ("learning_rate", ("--head", "linear"), "learning_rate 1e-05 is not possible: --learning_rate"),
    ("epochs", ("--freeze_epochs", "7"), "epochs 5 is not possible: --freeze_epochs"),
])
def test_wrong_search(names, words, wanted):
    asked = options_of("--backbone", "EfficientNetLite0", *words)
    with pytest.raises(InputError) as error:
        make_space((names,), asked, 400)
    assert str(error.value).startswith("--search: ") and wanted in str(error.value)


# --- studies --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """36 photos of three classes, with parts."""
    folder = tmp_path_factory.mktemp("photos")
    for index, (name, color) in enumerate(COLORS.items()):
        (folder / name).mkdir()
        for number in range(12):
            write_image(folder / name / f"{name}_{number}.png", color, seed=(index, number))
    return folder


@pytest.fixture
def words(photos, tmp_path):
    return ["--data", str(photos), "--run", "s", "--weights", "none", "--search", "dropout",
            "--save_dir", str(tmp_path / "runs"), "--log_dir", str(tmp_path / "logs")]


def open_study(words, *more):
    options = parser.parse("tune", [*words, *map(str, more)])
    return studies.open_study(planning.make_plan(options), options, 4)


def test_trials_are_claimed_once_and_taken_over(words):
    study, other = open_study(words), open_study(words)
    with study.claimed() as first, other.claimed() as second:
        assert (first.number, second.number) == (0, 1)
        assert first.values == {"dropout": 0.2} != second.values  # the default begins
        assert study.is_shared() and other.is_shared()
        study.finish(first, "complete", 0.5)
    with study.claimed() as again:  # its lock is free, as after a kill
        assert (again.number, again.values) == (1, second.values)
        study.finish(again, "complete", 0.4)
    assert not other.is_shared()
    with other.claimed(limit=2) as third:
        assert third is None
    assert [record.score for record in other.records()] == [0.5, 0.4]
    assert other.best().number == 0


def test_an_equal_score_does_not_replace_the_start(words):
    study = open_study(words)
    for score in (0.5, 0.5, 0.6, 0.6):
        with study.claimed() as claim:
            study.finish(claim, "complete", score)
    assert study.best().number == 2


def test_values_that_were_tried_are_not_trained_again(words):
    study = open_study(words[:6] + ["--search", "resize"] + words[8:])
    tried = []
    for _ in range(9):
        with study.claimed() as claim:
            if claim is None:
                break
            tried.append(claim.values["resize"])
            study.finish(claim, "pruned" if len(tried) == 2 else "complete", 0.5)
    assert sorted(tried) == ["crop", "letterbox", "stretch"] and study.is_exhausted
    assert len(study.records()) == 3


def test_journal_goes_on_after_a_torn_line(words, tmp_path):
    study = open_study(words)
    with study.claimed() as claim:
        study.finish(claim, "complete", 0.5)
    journal = tmp_path / "runs" / "s-tune" / "study.log"
    before = journal.read_bytes()
    journal.write_bytes(before + b'{"op_code":8,"worker_i')
    study = open_study(words)
    with study.claimed() as claim:
        study.finish(claim, "complete", 0.7)
    assert [record.score for record in open_study(words).records()] == [0.5, 0.7]
    assert journal.read_bytes().startswith(before) and b"worker_i\n" not in journal.read_bytes()


def test_damaged_journal(words, tmp_path):
    open_study(words)
    journal = tmp_path / "runs" / "s-tune" / "study.log"
    journal.write_bytes(b"{broken\n" + journal.read_bytes())
    with pytest.raises(InputError, match="study.log: the study is damaged .*--overwrite begins"):
        open_study(words)


@pytest.mark.parametrize("storage", [False, True])
def test_another_study_is_refused(words, tmp_path, photos, storage):
    more = ["--storage", f"sqlite:///{tmp_path}/studies.db"] if storage else []
    open_study(words, *more)
    open_study(words, *more, "--trials", 9, "--minutes", 1, "--lang", "zh")  # may change
    place = "studies.db" if storage else "s-tune"
    for changed, wanted in (
        (["--search", "shift"], "--search"), (["--epochs", 3], "--epochs"),
        (["--dropout", 0.3], "--dropout"),
    ):
        with pytest.raises(InputError, match=rf"{place}.* other values \({wanted}\); choose"):
            open_study(words, *more, *changed)
    others = shutil.copytree(photos, tmp_path / "others")
    write_image(others / "red" / "new.png", (200, 40, 30), seed=77)
    with pytest.raises(InputError, match=r"\(the photos, labels or parts\); choose another --run"):
        open_study(words, *more, "--data", others)
    again = open_study(words, *more, "--epochs", 3, "--overwrite")
    assert again.records() == []


def test_machines_share_a_database(words, tmp_path):
    """The other folder is another machine's: its trial stays its own, and it writes no page."""
    storage = ["--storage", f"sqlite:///{tmp_path}/studies.db"]
    here = open_study(words, *storage)
    there = open_study(words, *storage, "--save_dir", tmp_path / "there")
    with here.claimed() as first:
        here.finish(first, "complete", 0.5)
    with here.claimed():
        pass  # as if it was killed
    with there.claimed() as second:
        assert second.number == 2
        there.finish(second, "complete", 0.6)
    with here.claimed() as left:
        assert left.number == 1
    assert here.best().number == 2 and here.is_begun_here() and not there.is_begun_here()


@pytest.mark.parametrize("storage, wanted", [
    ("sqlite:////nowhere/at/all.db", "unable to open database file"),
    ("nothing://me:secret@host/base", "nothing"),
])
def test_storage_that_cannot_be_used(words, storage, wanted):
    with pytest.raises(InputError) as error:
        open_study(words, "--storage", storage)
    message = str(error.value)
    assert message.startswith("--storage: ") and wanted in message and "secret" not in message


def test_folder_that_is_no_study(words, tmp_path):
    (tmp_path / "runs" / "s-tune").mkdir(parents=True)
    (tmp_path / "runs" / "s-tune" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="s-tune is no study; it is left alone"):
        open_study(words, "--overwrite")
    assert (tmp_path / "runs" / "s-tune" / "mine.txt").exists()


def test_folder_that_another_process_begins_at_this_moment(words, tmp_path, monkeypatch):
    """A file is being written there, and becomes the mark while the lock is waited for."""
    folder = tmp_path / "runs" / "s-tune"
    (folder / "locks").mkdir(parents=True)
    (folder / "half-written").write_text('{"id": "of ')

    def waits_for_the_other(path, waits=True):
        if os.path.basename(path) == "folder" and (folder / "half-written").exists():
            (folder / "half-written").rename(folder / "tune.json")
            (folder / "tune.json").write_text('{"id": "of the other"}')
        return lock(path, waits)

    lock = planning.lock
    monkeypatch.setattr(planning, "lock", waits_for_the_other)
    assert planning.make_plan(parser.parse("tune", words)).folder_id == "of the other"
    (folder / "tune.json").unlink()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="s-tune is no study; it is left alone"):
        planning.make_plan(parser.parse("tune", words))
    assert (folder / "mine.txt").exists()


def test_too_few_photos(words, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "few" / name).mkdir(parents=True)
        for number in range(2):
            color = (number * 90, 40, 200 * (name == "a"))
            write_image(tmp_path / "few" / name / f"{number}.png", color, seed=number)
    with pytest.raises(InputError, match=r"4 photos make three parts .*: train \d, val \d, test 0"):
        open_study(words, "--data", tmp_path / "few")


def test_without_optuna(words, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match="bash sh/setup.sh tune installs it"):
        tune.main(parser.parse("tune", words))


def test_budget_keeps_time_for_the_verdict(monkeypatch):
    def record(seconds, state="complete"):
        return studies.Record(0, state, {}, 0.5, 1, seconds, "", "")

    budget = Budget(parser.parse("tune", ["--data", "d", "--minutes", "10"]), 6)
    assert budget.has_room([])
    assert budget.has_room([record(60)])  # 9 minutes are left, and 7 are needed
    assert not budget.has_room([record(60)] * 4)
    assert not budget.has_room([record(60)] * 3 + [record(30, "pruned")] * 2)
    assert "1.0 minutes: the 9.0 that are left are enough for about 3 more" in budget.describe(
        [record(60)])
    with pytest.raises(InputError, match="--minutes: 0 sets no limit; give .* or --trials"):
        Budget(parser.parse("tune", ["--data", "d", "--minutes", "0"]), 6)
    endless = Budget(parser.parse("tune", ["--data", "d", "--trials", "3"]), 6)
    assert endless.has_room([record(1e9)])


def test_importance_is_optunas(words):
    """One option decides alone."""
    study = open_study(words, "--search", "dropout,shift", "--trials", 12)
    assert study.importance() == {}
    for _ in range(12):
        with study.claimed() as claim:
            study.finish(claim, "complete", 0.9 - abs(claim.values["dropout"] - 0.2))
    shares = study.importance()
    assert list(shares)[0] == "dropout" and shares["dropout"] > 0.6
    assert sum(shares.values()) == pytest.approx(1)


# --- kills, and two processes ---------------------------------------------------------


def in_process(*words):
    done = subprocess.run([sys.executable, "-m", "tests.tune_process", *map(str, words)], cwd=ROOT,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stderr)  # what went wrong in a process of its own
    return json.loads(done.stdout)


def count(events, kind):
    numbers = [name for event, name, _ in events if event == kind]
    return {name: numbers.count(name) for name in numbers}


@posix
@pytest.mark.training  # pretended, but a study is begun a dozen times
def test_killed_study_ends_as_one_that_was_not(photos, tmp_path):
    result = in_process("kills", photos, tmp_path)
    whole = result["whole"]
    states = [trial["state"] for trial in whole["trials"]]
    assert len(states) == 9 and {"complete", "pruned"} == set(states)
    assert len({trial["weights"] for trial in whole["trials"]}) == 9
    for killed in result["killed"]:
        assert killed["statuses"][0] == -9 and killed["statuses"][2] == 0, killed["moment"]
        assert killed["trials"] == whole["trials"], killed["moment"]
        for kind in ("begin", "end"):  # none is lost, none done twice
            assert count(killed["events"], kind) == count(whole["events"], kind), killed["moment"]
        assert set(count(killed["events"], "end").values()) == {1}


@posix
def test_two_processes_do_every_trial_once(photos, tmp_path):
    result = in_process("two", photos, tmp_path)
    assert result["statuses"] == [0, 0] and len(result["trials"]) == 9
    for kind in ("begin", "end"):
        assert set(count(result["events"], kind).values()) == {1}
        assert len(count(result["events"], kind)) == 9
    assert len({process for _, _, process in result["events"]}) == 2
    assert len({trial["weights"] for trial in result["trials"]}) == 9


# --- the verdict's sums ---------------------------------------------------------------


def test_comparison_by_hand():
    """Differences per seed 2/4 and 0/4; per photo 1, 0.5, 0, -0.5."""
    first = np.array([[0, 0, 1, 1], [0, 1, 1, 1]], bool)
    second = np.array([[1, 1, 1, 1], [1, 1, 1, 0]], bool)
    result = compare_seeds(first, second, np.arange(4))
    over_photos = np.var([1, 0.5, 0, -0.5], ddof=1) / 4
    over_seeds = np.var([0.5, 0.0], ddof=1) / 2
    freedom = (over_photos + over_seeds) ** 2 / (over_photos**2 / 3 + over_seeds**2 / 1)
    half = stats.t.ppf(0.975, freedom) * np.sqrt(over_photos + over_seeds)
    assert result.difference == 0.25 and result.freedom == pytest.approx(freedom)
    assert (result.low, result.high) == pytest.approx((max(-1, 0.25 - half), min(1, 0.25 + half)))
    assert (result.only_first, result.only_second) == (1, 2)
    assert result.p_value == pytest.approx(stats.binomtest(1, 3).pvalue) and result.sign == 0


def test_comparison_of_trainings_that_are_alike_is_the_paired_t_test():
    """Where seeds change nothing the interval is SciPy's for the photos."""
    generator = np.random.default_rng(0)
    first = np.tile(generator.random(200) < 0.7, (3, 1))
    second = np.tile(generator.random(200) < 0.8, (3, 1))
    result = compare_seeds(first, second, np.arange(200))
    test = stats.ttest_rel(second[0].astype(float), first[0].astype(float))
    interval = test.confidence_interval(0.95)
    assert (result.low, result.high) == pytest.approx((interval.low, interval.high))


def test_comparison_counts_groups_as_one():
    """A hundred photos of five groups that change as one are five observations."""
    groups = np.repeat(np.arange(5), 20)
    first, second = np.zeros((3, 100), bool), np.tile(groups < 4, (3, 1))
    single = compare_seeds(first[:, ::20], second[:, ::20], np.arange(5))
    together = compare_seeds(first, second, groups)
    assert (together.low, together.high) == pytest.approx((single.low, single.high))
    assert together.sign == 0 and compare_seeds(first, second, np.arange(100)).sign == 1


def test_few_photos_that_all_change_prove_nothing():
    first, second = np.zeros((3, 5), bool), np.ones((3, 5), bool)
    assert compare_seeds(first, second, np.arange(5)).sign == 0
    assert compare_seeds(np.zeros((3, 9)), np.ones((3, 9)), np.arange(9)).sign == 1
    assert compare_seeds(np.ones((3, 9)), np.zeros((3, 9)), np.arange(9)).sign == -1


@pytest.mark.parametrize("case", CASES)
def test_equal_settings_are_seldom_called_better(case):
    """At most 5 % of the studies; benchmarks/tuning.py has more of them."""
    assert false_alarms(case, studies=300) <= 0.05


def test_a_difference_is_seen():
    generator = np.random.default_rng(0)
    seen = 0
    for _ in range(50):
        first, second = draw_answers(generator, 3, 300, (0.1, 0.0))
        second |= generator.random(second.shape) < 0.5
        seen += compare_seeds(first, second, np.arange(300)).sign == 1
    assert seen >= 45


# --- every option reaches the trials --------------------------------------------------


def test_every_option_reaches_the_trainings(tmp_path):
    yaml_file = tmp_path / "mine.yaml"
    yaml_file.write_text("horizontal_flip: false\n")
    options = parser.parse("tune", [
        "--data", "photos", "--labels", "names.json", "--max_bad", "0.5", "--group", "date",
        "--workers", "3", "--data_time_limit", "7", "--backbone", "EfficientNetB1", "--weights",
        "none", "--weights_url", "http://localhost", "--input_size", "64", "--resize", "crop",
        "--fill_color", "1,2,3", "--dropout", "0.3", "--drop_connect", "0.1", "--attention",
        "cbam", "--block_attention", "cbam", "--pooling", "bilinear", "--bilinear_dim", "32",
        "--head", "neighbours", "--neighbour_count", "7", "--norm", "group", "--normalize",
        "1,2,3,4,5,6", "--recipe", "scratch", "--minutes", "3", "--batch_size", "4", "--epochs",
        "3", "--learning_rate", "0.1", "--optimizer", "sgd", "--weight_decay", "0.2",
        "--warmup_epochs", "1", "--label_smoothing", "0.2", "--loss", "focal", "--focal_gamma",
        "3", "--class_weights", "balanced", "--sampler", "balanced", "--nan_policy", "restore",
        "--linear_head", "no", "--freeze_batchnorm", "--freeze_epochs", "2", "--cache_features",
        "--layer_decay", "0.5", "--clipnorm", "1", "--accumulate", "2", "--ema", "0.8", "--soup",
        "yes", "--mixed_precision", "bfloat16", "--jit", "on", "--scale_lr", "linear",
        "--patience", "4", "--select", "last", "--seed", "5",
        "--horizontal_flip", "no", "--vertical_flip",
        "--shift", "0.3", "--rotation", "9", "--zoom", "0.4", "--random_eraser", "0.1",
        "--randaugment", "0.3", "--augmix", "0.2", "--mixup", "0.3", "--cutmix", "0.2",
        "--checkpoint_minutes", "2", "--log_dir", "logs", "--config", str(yaml_file), "--overwrite",
        "--debug"])
    asked, defaults = planning.shared_options(options), parser.parse("train", [])
    names = set(MODES["tune"].options) & set(MODES["train"].options)
    # What the study does itself; the parts keep the groups together
    names -= {"group", "minutes", "seed", "run", "save_dir", "log_dir", "overwrite", "json"}
    names -= {"config", "debug"}
    assert not [name for name in names if getattr(asked, name) == getattr(defaults, name)]
    assert all(getattr(asked, name) == getattr(options, name) for name in names)
    assert names <= asked.given and asked.minutes == 0 and asked.seed == defaults.seed


def test_groups_stay_in_one_part(words, tmp_path, photos):
    """Frames of a recording are on one side, and count as one in the verdict."""
    data = shutil.copytree(photos, tmp_path / "series")
    (data / "splits.csv").unlink(missing_ok=True)
    for path in data.glob("*/*.png"):
        name, number = path.stem.split("_")
        path.rename(path.with_name(f"day{int(number) // 2}_{path.name}"))
    options = parser.parse("tune", [
        *words, "--data", str(data), "--group", r"pattern:(\w+/day\d)_"])
    plan = planning.make_plan(options)
    days = [name.rsplit("_", 2)[0] for name in plan.test.file_names]
    assert len(set(plan.groups)) == len(set(days)) < len(days)
    assert len({*zip(plan.groups.tolist(), days)}) == len(set(days))
    assert sum(plan.counts) == 36 and min(plan.counts) > 0
