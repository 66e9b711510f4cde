"""--track mlflow: what MLflow gets, that nobody else gets anything, and that it spoils no training.

MLflow's own client writes; what it has written is read from its database with plain SQL, or from
the requests that a server on this machine was sent.
"""

import base64
import collections
import contextlib
import hashlib
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
import yaml
from conftest import COLORS, ROOT, write_image
from tiny_backbone import few_blocks

import save_model
import train
from common.errors import InputError
from config import parser
from data.samples import Samples
from other import crossval, report
from runs import run_folder, tracking
from runs.margin_files import write_trained_on
from runs.mlflow_store import TrackingError, open_store, without_secrets
from runs.results import COLUMNS, read_results, write_results
from runs.tracked_values import read_values
from training import background_tracking
from training.background_tracking import BackgroundTracking, track_asked

pytest.importorskip("mlflow")
PER_CLASS = 6  # photos
VARIABLES = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID",
             "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def rows(save_dir, query, *values):
    """What a query of the database beside the runs gives."""
    with contextlib.closing(sqlite3.connect(save_dir / "mlflow.db")) as database:
        return database.execute(query, values).fetchall()


def record_of(run_path):
    return json.loads((run_path / "tracking.json").read_text())


def steps_of(save_dir, run_id, name):
    """(step, value) of a metric, in the order of steps, each as often as it was sent."""
    return rows(save_dir, "select step, value from metrics where run_uuid = ? and key = ? "
                "order by step, timestamp", run_id, name)


def tags_of(save_dir, run_id):
    return dict(rows(save_dir, "select key, value from tags where run_uuid = ?", run_id))


def status_of(save_dir, run_id):
    return rows(save_dir, "select status from runs where run_uuid = ?", run_id)[0][0]


def sent_folder(save_dir, run_id):
    """Where the files of a run are."""
    uri = rows(save_dir, "select artifact_uri from runs where run_uuid = ?", run_id)[0][0]
    assert uri.startswith("file:///")
    return save_dir / "mlflow-artifacts" / run_id / "artifacts"


def contents(folder):
    """dict of the relative path of each file -> its bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*")) if path.is_file()}


# --- from a training to its report, on the database beside the runs ---------------------


def write_photos(folder):
    for index, (name, color) in enumerate(COLORS.items()):
        os.makedirs(folder / name)
        for number in range(PER_CLASS):
            write_image(folder / name / f"{number}.png", color, seed=(index, number))
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with photos, and with runs of which one was trained, resumed, exported, reported."""
    place = tmp_path_factory.mktemp("tracked ü")
    write_photos(place / "photos")
    save_dir = place / "runs"
    where = ("--save_dir", str(save_dir))
    with pytest.MonkeyPatch.context() as patch, few_blocks():
        for name in VARIABLES:
            patch.delenv(name, raising=False)
        first = train.fit(parser.parse("train", [
            "--train_data", str(place / "photos"), "--val_fraction", "0.2", "--weights", "none",
            "--input_size", "32", "--epochs", "2", "--run", "run", "--log_dir",
            str(place / "logs"), *where, "--track", "mlflow"]))
        record = record_of(save_dir / "run")
        early = steps_of(save_dir, record["run_id"], "val_loss")
        last = train.fit(parser.parse("train", [
            "--resume", "run", "--epochs", "3", *where, "--track", "mlflow"]))
        save_model.main(parser.parse("export", [
            "--run", "run", *where, "--format", "savedmodel", "--track", "mlflow"]))
        report.main(parser.parse("report", [
            "--run", "run", *where, "--data", str(place / "photos"), "--track", "mlflow"]))
    return SimpleNamespace(place=place, save_dir=save_dir, run_path=save_dir / "run", first=first,
                           last=last, early=early, run_id=record["run_id"])


@pytest.mark.training
def test_scores_by_epoch_are_those_of_results_csv_each_sent_once(trained):
    history = read_results(trained.run_path)
    assert [step for step, _ in trained.early] == [1, 2]
    for name in COLUMNS[1:]:
        expected = [(int(row["epoch"]), row[name]) for row in history]
        assert steps_of(trained.save_dir, trained.run_id, name) == expected
    assert [row["epoch"] for row in history] == [1, 2, 3]


@pytest.mark.training
def test_a_resumed_training_adds_to_the_same_track(trained):
    assert trained.first["tracking"] == trained.last["tracking"] == {
        "mlflow": "beside the runs", "run_id": trained.run_id, "missing": None}
    assert record_of(trained.run_path)["run_id"] == trained.run_id
    assert rows(trained.save_dir, "select run_uuid, name, status from runs") == [
        (trained.run_id, "run", "FINISHED")]
    assert tags_of(trained.save_dir, trained.run_id)["changed.epochs"] == "3"


@pytest.mark.training
def test_options_are_those_that_the_run_keeps(trained):
    kept = yaml.safe_load((trained.run_path / "options.yaml").read_text(encoding="utf-8"))
    kept["epochs"] = 2  # what it began with; what it was resumed with is a tag
    params = dict(rows(trained.save_dir, "select key, value from params"))
    assert params.keys() == {name for name, value in kept.items() if value not in (None, [])}
    for name, text in params.items():
        if isinstance(kept[name], bool):
            assert text == ("yes" if kept[name] else "no")
        elif isinstance(kept[name], (int, float)):
            assert float(text) == pytest.approx(kept[name], rel=1e-5)
    assert params["train_data"] == str(trained.place / "photos") and params["backbone"]


@pytest.mark.training
def test_scores_of_the_run_and_of_the_report_have_names_of_their_own(trained):
    metrics = dict(rows(trained.save_dir, "select key, value from latest_metrics"))
    own = json.loads((trained.run_path / "metrics.json").read_text())
    assert metrics["best_val_accuracy"] == own["val_accuracy"]
    assert metrics["best_epoch"] == own["best_epoch"]
    assert metrics["train_images"] == own["train_images"]
    assert 0 <= metrics["report_accuracy_low"] <= metrics["report_accuracy"] <= 1
    assert tags_of(trained.save_dir, trained.run_id)["report_data"].endswith("photos")


@pytest.mark.training
def test_data_are_told_by_name_counts_and_digest_of_their_content(trained):
    lines, folders = [], collections.Counter()
    with open(trained.run_path / "margins" / "images.csv", encoding="utf-8") as file:
        for line in file:
            path, class_id, _ = line.rsplit(",", 2)
            folders[os.path.basename(os.path.dirname(path))] += 1
            with open(path, "rb") as photo:
                lines.append(f"{hashlib.sha256(photo.read()).hexdigest()[:16]} {class_id}")
    digest = hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:36]
    data = {digest: (name, json.loads(profile)) for digest, name, profile in rows(
        trained.save_dir, "select digest, name, dataset_profile from datasets")}
    assert data[digest] == ("photos", {"photos": len(lines), "classes": folders})
    assert sum(profile["photos"] for _, profile in data.values()) == 3 * PER_CLASS
    contexts = rows(trained.save_dir, "select value from input_tags")
    assert sorted(contexts) == [("training",), ("validation",)]


@pytest.mark.training
def test_report_and_exported_model_are_there_byte_by_byte(trained):
    sent = contents(sent_folder(trained.save_dir, trained.run_id))
    model = contents(trained.run_path / "model")
    assert {"README.md", "model.json", "saved_model.pb"} <= model.keys()
    expected = {f"model/{name}": data for name, data in model.items()}
    for name in ("report.html", "report.csv"):
        expected[f"report/{name}"] = (trained.run_path / name).read_bytes()
    assert sent == expected


@pytest.mark.training
def test_machine_and_person_are_not_named(trained):
    tags = tags_of(trained.save_dir, trained.run_id)
    assert tags.keys() == {"mlflow.runName", "versions", "changed.epochs", "report_data"}
    assert rows(trained.save_dir, "select user_id, source_name, entry_point_name, source_version "
                "from runs") == [("unknown", "", "", "")]


@pytest.mark.training
def test_crossval_is_a_run_with_a_run_per_fold_below_it(tmp_path, capsys):
    write_photos(tmp_path / "photos")
    with few_blocks():
        result = crossval.main(parser.parse("crossval", [
            "--data", str(tmp_path / "photos"), "--folds", "2", "--head", "linear", "--run", "tn",
            "--weights", "none", "--input_size", "32", "--save_dir", str(tmp_path / "runs"),
            "--log_dir", str(tmp_path / "logs"), "--json", "--track", "mlflow"]))
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["tracking"] == result["tracking"]
    save_dir, parent = tmp_path / "runs", result["tracking"]["run_id"]
    names = dict(rows(save_dir, "select name, run_uuid from runs"))
    assert names.keys() == {"tn-crossval", "tn-fold-1", "tn-fold-2"}
    for fold in ("tn-fold-1", "tn-fold-2"):
        assert tags_of(save_dir, names[fold])["mlflow.parentRunId"] == parent
        (row,) = read_results(save_dir / fold)
        assert steps_of(save_dir, names[fold], "val_accuracy") == [(1, row["val_accuracy"])]
    metrics = {name: steps_of(save_dir, parent, name) for name in ("accuracy", "accuracy_low")}
    assert metrics == {"accuracy": [(0, result["accuracy"]["value"])],
                       "accuracy_low": [(0, result["accuracy"]["low"])]}
    page = save_dir / "tn-crossval" / "index.html"
    assert contents(sent_folder(save_dir, parent))["crossval/index.html"] == page.read_bytes()


# --- bringing a track up to date, on runs that nobody trained --------------------------


def write_run(save_dir, name="run", epochs=2, **words):
    """A run's folder with results; nothing is trained."""
    options = parser.parse("train", ["--train_data", "photos", "--epochs", str(epochs)])
    run_path = str(save_dir / name)
    os.makedirs(save_dir, exist_ok=True)
    run_folder.create(run_path, options._replace(input_size=32, run=name, **words), ("a", "b"),
                      overwrite=True)
    history(run_path, epochs)
    return run_path


def history(run_path, epochs, shift=0.0):
    write_results(run_path, [
        {"epoch": number, "loss": 1 / number, "accuracy": 0.5, "val_loss": 2 / number + shift,
         "val_accuracy": 0.5, "learning_rate": 0.1} for number in range(1, epochs + 1)])


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """A folder of runs with a database that is open."""
    save_dir = tmp_path_factory.mktemp("local")
    with pytest.MonkeyPatch.context() as patch:
        for name in VARIABLES:
            patch.delenv(name, raising=False)
        return SimpleNamespace(save_dir=save_dir, store=open_store(str(save_dir)))


def test_only_what_is_new_is_sent(local):
    run_path = write_run(local.save_dir)
    run_id = tracking.send(local.store, run_path, read_values(run_path))
    history(run_path, 3)
    run_folder.add_metrics(run_path, {"val_accuracy": 0.5, "test_accuracy": 0.25, "note": None})
    for _ in range(2):
        assert tracking.send(local.store, run_path, read_values(run_path)) == run_id
    values = [(1, 2.0), (2, 1.0), (3, 2 / 3)]
    assert steps_of(local.save_dir, run_id, "val_loss") == values
    assert steps_of(local.save_dir, run_id, "test_accuracy") == [(0, 0.25)]
    assert status_of(local.save_dir, run_id) == "FINISHED"
    history(run_path, 3, shift=0.5)  # resumed from an older checkpoint, on another device
    tracking.send(local.store, run_path, read_values(run_path))
    assert steps_of(local.save_dir, run_id, "val_loss") == values
    assert tags_of(local.save_dir, run_id)["epochs_trained_again"] == "1, 2, 3"


def test_a_run_that_is_replaced_or_gone_there_begins_a_new_track(local):
    run_path = write_run(local.save_dir, "again")
    first = tracking.send(local.store, run_path, read_values(run_path))
    write_run(local.save_dir, "again")
    second = tracking.send(local.store, run_path, read_values(run_path))
    local.store.client.delete_run(second)
    third = tracking.send(local.store, run_path, read_values(run_path))
    (tmp_json := local.save_dir / "again" / "tracking.json").write_text("{")
    fourth = tracking.send(local.store, run_path, read_values(run_path))
    assert len({first, second, third, fourth}) == 4 and json.loads(tmp_json.read_text())


def test_values_are_short_and_without_passwords(local):
    run_path = write_run(local.save_dir, "long", weights="https://me:secret@host/w?key=secret",
                         labels="x" * 7000)
    run_id = tracking.send(local.store, run_path, read_values(run_path))
    params = dict(rows(local.save_dir, "select key, value from params where run_uuid = ?", run_id))
    assert params["weights"] == "https://host/w" and params["labels"] == "x" * 500
    assert without_secrets("C:\\me@home and http://h:1/a@b") == "C:\\me@home and http://h:1/a@b"


def test_classes_are_counted_photo_by_photo(local):
    run_path = write_run(local.save_dir, "data")
    names = [f"{number}.png" for number in range(5)]
    write_trained_on(run_path, Samples("photos", names, [0, 1, 1, 1, 1]), [1, 2, 3, 4, 4])
    data = read_values(run_path).data["training"]
    assert data.class_counts == {"a": 1, "b": 4} and data.photo_count == 5
    write_trained_on(run_path, Samples("moved", names[::-1], [1, 1, 1, 1, 0]), [4, 4, 3, 2, 1])
    assert read_values(run_path).data["training"].digest == data.digest
    write_trained_on(run_path, Samples("photos", names, [1, 1, 1, 1, 1]), [1, 2, 3, 4, 4])
    assert read_values(run_path).data["training"].digest != data.digest


# --- who tracks, and what is imported -------------------------------------------------


def test_only_the_chief_tracks(tmp_path, monkeypatch):
    options = parser.parse("train", ["--track", "mlflow"])
    opened = []
    monkeypatch.setattr(tracking, "open_store", lambda place: opened.append(place) or "store")
    with track_asked(options, str(tmp_path / "run"), is_chief=False) as nothing:
        assert nothing is None and opened == []
    assert track_asked(options, str(tmp_path / "run"), is_chief=True).store == "store"
    assert opened == [str(tmp_path)]


def test_an_exported_model_has_no_track(tmp_path):
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(InputError, match="is an exported model, which has no track; name its run"):
        tracking.open_asked("mlflow", str(tmp_path))


QUIET = """
import socket, sys
def refuse(*words):
    print("asked for", words[-1] if len(words) < 3 else words[:2], flush=True)
    raise OSError("no network here")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
import multigpu_train, save_model, train
from other import crossval, report
from config import parser
from runs import tracking
from training.background_tracking import track_asked
with track_asked(parser.parse("train", []), sys.argv[1] + "/run", True) as nothing:
    assert nothing is None
assert not {"mlflow", "sqlalchemy", "alembic"} & sys.modules.keys()
store = tracking.open_asked("mlflow", sys.argv[1] + "/run")
run_id = store.create("run", {})
store.log(run_id, [("loss", 0.5, 1)], {"epochs": "3"})
store.set_status(run_id, "FINISHED")
assert "mlflow" in sys.modules and not {"tensorflow", "keras", "git"} & sys.modules.keys()
from mlflow.telemetry import client, utils
assert utils.is_telemetry_disabled() and client.get_telemetry_client() is None
"""


def test_nothing_is_imported_unasked_and_nobody_else_is_told(tmp_path):
    # MLflow tells its makers nothing in tests and on build servers; here it must not know.
    names = ("CI", "PYTEST", "GITHUB_", "JENKINS", "BUILD", "MLFLOW", "DO_NOT_TRACK", "TF_BUILD")
    bare = {name: value for name, value in os.environ.items() if not name.startswith(names)}
    process = subprocess.run([sys.executable, "-c", QUIET, tmp_path], cwd=ROOT, env=bare,
                             capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert process.stdout == process.stderr == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db"]


def test_a_missing_mlflow_is_refused_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(InputError, match="MLflow is not installed; bash sh/setup.sh track"):
        open_store(str(tmp_path))


# --- servers --------------------------------------------------------------------------


class Server(ThreadingHTTPServer):
    """As much of MLflow's REST API as a run needs; notes every request.

    `mood` is "well", an HTTP status that every request gets, or "hangs".
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.mood, self.requests, self.released = "well", [], threading.Event()
        self.uri = f"http://127.0.0.1:{self.server_port}"

    def paths(self):
        return [path for path, *_ in self.requests]


class Handler(BaseHTTPRequestHandler):
    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append((self.path.split("?")[0], self.headers["Authorization"], body))
        if self.server.mood == "hangs":
            self.server.released.wait(30)
            return
        status, text = self.reply(self.path.split("?")[0])
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def reply(self, path):
        if self.server.mood != "well":
            return self.server.mood, b"<html>go away</html>"
        info = {"run_id": "abc", "experiment_id": "7", "status": "RUNNING",
                "lifecycle_stage": "active", "artifact_uri": "mlflow-artifacts:/7/abc/artifacts"}
        known = {
            "experiments/get-by-name": {"experiment": {"experiment_id": "7", "name": "mine"}},
            "runs/create": {"run": {"info": info}}, "runs/get": {"run": {"info": info}},
            "runs/update": {"run_info": info},
        }
        return 200, json.dumps(known.get(path.removeprefix("/api/2.0/mlflow/"), {})).encode()

    do_GET = do_POST = do_PUT = do_PATCH = answer

    def log_message(self, *words):
        pass


@pytest.fixture
def server(monkeypatch):
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_server_gets_credentials_and_the_files_under_the_run(
        server, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    run_path = write_run(tmp_path)
    (tmp_path / "page.html").write_text("page")
    store = tracking.open_asked("mlflow", run_path)
    result = tracking.deliver(store, lambda: tracking.send_with_files(
        store, run_path, [(str(tmp_path / "page.html"), "report")], {"report_accuracy": 0.5}))
    assert result == {"mlflow": f"at {server.uri}", "run_id": "abc", "missing": None}
    expected = "Basic " + base64.b64encode(b"me:secret").decode()
    assert {authorization for _, authorization, _ in server.requests} == {expected}
    assert all(path.startswith(("/api/2.0/mlflow/", "/api/2.0/mlflow-artifacts/artifacts/7/abc/"))
               for path in server.paths()), server.paths()
    sent = {path: body for path, _, body in server.requests if b"page" == body}
    assert list(sent) == [
        "/api/2.0/mlflow-artifacts/artifacts/7/abc/artifacts/report/page.html"]
    out, err = capfd.readouterr()
    assert out == "" and err == f"sent to MLflow at {server.uri}, run abc\n"


def test_a_password_in_the_address_is_neither_kept_nor_shown(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri.replace("//", "//me:secret@"))
    run_path = write_run(tmp_path)
    store = tracking.open_asked("mlflow", run_path)
    server.mood = 418
    tracking.deliver(store, lambda: tracking.send_with_files(store, run_path, []))
    server.mood = "well"
    tracking.deliver(store, lambda: tracking.send_with_files(store, run_path, []))
    assert record_of(tmp_path / "run")["mlflow"] == f"at {server.uri}"
    assert "secret" not in capsys.readouterr().err


@pytest.mark.parametrize("mood, reason", [
    ("closed", "cannot be reached: Connection refused"),
    (401, r"refuses us \(HTTP 401\): check MLFLOW_TRACKING_TOKEN"),
    (503, r"does not take it: .*503"),
    ("hangs", r"does not answer within 1 s \(MLFLOW_HTTP_REQUEST_TIMEOUT\)"),
])
def test_a_server_that_does_not_answer_is_refused_before_the_training(
        server, tmp_path, monkeypatch, mood, reason):
    server.mood = mood
    if mood == "closed":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=f"--track: MLflow at .*{reason}.*leave --track out"):
        track_asked(parser.parse("train", ["--track", "mlflow"]), str(tmp_path / "run"), True)
    assert list(tmp_path.iterdir()) == []


def test_a_training_resumes_without_its_server(server, tmp_path, capsys):
    server.mood = 401
    options = parser.parse("train", ["--resume", "run", "--track", "mlflow"])
    with track_asked(options, str(tmp_path / "run"), True) as nothing:
        assert nothing is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("note: --track: MLflow at http") and line.endswith("resumes without it")


def test_waiting_is_bounded_where_nobody_says_how_long(local):
    """MLflow's own default is 120 s, tried 8 times."""
    from mlflow.environment_variables import (
        MLFLOW_HTTP_REQUEST_MAX_RETRIES,
        MLFLOW_HTTP_REQUEST_TIMEOUT,
    )

    assert MLFLOW_HTTP_REQUEST_TIMEOUT.get() * (1 + MLFLOW_HTTP_REQUEST_MAX_RETRIES.get()) <= 60


@pytest.mark.parametrize("mood", ["hangs", 500, 401])
def test_a_training_goes_on_without_its_server(server, tmp_path, monkeypatch, capsys, mood):
    run_path = write_run(tmp_path)
    with track_asked(parser.parse("train", ["--track", "mlflow"]), run_path, True) as tracker:
        server.mood = mood
        started_at = time.monotonic()
        for _ in range(20):
            tracker.update()
        assert time.monotonic() - started_at < 1  # of these, each would wait a second
        while not tracker.has_warned:
            time.sleep(0.01)
    assert tracker.missing and tracker.summary()["missing"] == tracker.missing
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("note: MLflow at http") and "the training goes on" in first
    assert last.startswith(f"note: MLflow lacks a part of {run_path}: MLflow at http")
    assert last.endswith(f"export --run {run_path} --track mlflow")
    server.mood = "well"  # and the next command sends all of it
    store = tracking.open_asked("mlflow", run_path)
    tracking.deliver(store, lambda: tracking.send_with_files(store, run_path, []))
    (batch,) = [json.loads(body) for path, _, body in server.requests
                if path.endswith("log-batch") and b'"val_loss"' in body]
    losses = [(entry["step"], entry["value"]) for entry in batch["metrics"]
              if entry["key"] == "val_loss"]
    assert losses == [(1, 2.0), (2, 1.0)]


class Slow:
    """A store that takes for ever, until it is released."""

    address = "at http://slow"

    def __init__(self):
        self.released = threading.Event()

    def create(self, name, tags):
        self.released.wait(30)
        raise TrackingError("released")


@pytest.mark.parametrize("error, seconds, command", [
    (None, "FINISH_SECONDS", "export --run"),
    (ValueError, "FINISH_SECONDS", "train --resume"),
    (KeyboardInterrupt, "INTERRUPTED_SECONDS", "train --resume"),
])
def test_the_end_of_a_training_waits_for_so_long(tmp_path, monkeypatch, capsys, error, seconds,
                                                command):
    for name in ("FINISH_SECONDS", "INTERRUPTED_SECONDS"):
        monkeypatch.setattr(background_tracking, name, 60.0)
    monkeypatch.setattr(background_tracking, seconds, 0.1)
    run_path, store = write_run(tmp_path), Slow()
    with contextlib.suppress(ValueError, KeyboardInterrupt):
        with BackgroundTracking(store, run_path) as tracker:
            tracker.update()
            if error:
                raise error
    err = capsys.readouterr().err
    assert "MLflow at http://slow has not taken all within 0.1 s" in err
    assert err.rstrip().endswith(f"{command} {run_path} --track mlflow")
    store.released.set()
    tracker.thread.join(10)


@pytest.mark.parametrize("error, status", [
    (None, "FINISHED"), (ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_mlflow_knows_how_a_training_ended(local, error, status):
    run_path = write_run(local.save_dir, f"ended-{status}")
    with contextlib.suppress(ValueError, KeyboardInterrupt):
        with BackgroundTracking(local.store, run_path) as tracker:
            tracker.update()
            if error:
                raise error
    assert status_of(local.save_dir, tracker.run_id) == status


def test_a_training_that_never_began_leaves_no_track(local, capsys):
    count = len(rows(local.save_dir, "select * from runs"))
    with contextlib.suppress(InputError):
        with BackgroundTracking(local.store, str(local.save_dir / "none")):
            raise InputError("no photos")
    assert len(rows(local.save_dir, "select * from runs")) == count
    assert capsys.readouterr().err == ""
