"""other/labelling/application.py: who may ask what, and what is answered."""

import csv
import os

import cv2
import numpy as np
import pytest
from conftest import write_image

from common.tables import write_table
from other.data_quality import findings
from other.labelling.application import Work, create_application
from other.labelling.layouts import SET_ASIDE
from other.labelling.photo_set import PhotoSet
from other.labelling.queues import Queues
from other.reporting import doubtful_labels

TOKEN, HOST = "t0ken", "127.0.0.1:8000"
KEPT = "20260301T120000.000005-request-0.png"
FILES = ("glass/1.png", "glass/2.png", "metal/1.png", "_unsorted/1.png", f"_unsorted/{KEPT}")


@pytest.fixture
def photos(tmp_path):
    for seed, name in enumerate(FILES):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(tmp_path / "photos" / name, size=(400, 300), seed=seed)
    with PhotoSet(str(tmp_path / "photos")) as photo_set:
        yield photo_set


@pytest.fixture
def client(photos):
    return open_client(photos, Queues(photos))


def open_client(photos, queues, language=None):
    work = Work("photos", photos, queues, None, ["python run.py --mode train"], "unsorted")
    return create_application(work, TOKEN, language).test_client()


def get(client, path, **headers):
    return client.get(f"/{TOKEN}/{path}", headers={"Host": HOST, **headers})


def post(client, path, body, **headers):
    return client.post(f"/{TOKEN}/{path}", json=body, headers={"Host": HOST, **headers})


def at(photos, path):
    return photos.paths.index(path)


def test_a_label_and_back(client, photos, tmp_path):
    photo = at(photos, "_unsorted/1.png")
    assert post(client, "api/label", {"labels": [{"ids": [photo], "name": "metal"}]}).json == {
        "changed": 1, "done": 1}
    assert (tmp_path / "photos" / "metal" / "1-2.png").exists()
    state = get(client, "api/state?since=1").json
    assert state["classes"] == [{"name": "glass", "count": 2}, {"name": "metal", "count": 2}]
    assert state["changed"] == [{"id": photo, "path": "metal/1-2.png", "name": "metal"}]
    assert (state["undoable"], state["redoable"], state["queues"]["unsorted"]) == (1, 0, 1)
    assert post(client, "api/undo", {}).json["changed"] == 1
    assert (tmp_path / "photos" / "_unsorted" / "1.png").exists()
    assert post(client, "api/redo", {}).json["changed"] == 1
    back = {"labels": [{"ids": [photo], "name": None}]}
    assert post(client, "api/label", back).json["changed"] == 1
    assert photos.paths[photo] == "_unsorted/1-2.png"


def test_queues(client, photos):
    def queue(name):
        return [photos.paths[i] for i in post(client, "api/queue", {"name": name}).json["ids"]]

    assert queue("unsorted") == [f"_unsorted/{KEPT}", "_unsorted/1.png"] or len(
        queue("unsorted")) == 2
    assert queue("kept") == [f"_unsorted/{KEPT}"]
    assert queue("class:glass") == ["glass/1.png", "glass/2.png"]
    photos.label([at(photos, "glass/1.png")], SET_ASIDE)
    assert queue("removed") == ["_removed/1.png"] and queue("class:glass") == ["glass/2.png"]
    assert post(client, "api/queue", {"name": "other"}).status_code == 409


def test_most_useful_first(photos):
    queues = Queues(photos)
    both = [at(photos, "_unsorted/1.png"), at(photos, f"_unsorted/{KEPT}")]
    for order in (both, both[::-1]):
        queues.sort_unsorted(order)
        assert queues.list("unsorted") == order
    queues.sort_unsorted(both[:1])  # of the other nothing is known yet
    assert queues.list("unsorted") == both


def test_doubtful_and_audit(photos, tmp_path):
    root = tmp_path / "photos"
    write_table(tmp_path / "report.csv", doubtful_labels.COLUMNS, [
        [str(root / "glass" / "2.png"), "glass", "metal", "0.1", "0.9", "prediction", ""],
        [str(root / "metal" / "1.png"), "glass", "metal", "0.1", "0.9", "prediction", ""],
        [str(root / "glass" / "gone.png"), "glass", "metal", "0.1", "0.9", "prediction", ""]])
    found = findings.Findings()
    found.add("conflicting_labels", str(root / "glass" / "1.png"), "is also metal", 1, "glass")
    found.add("tiny", str(root / "metal" / "1.png"), "has few pixels", label="metal")
    findings.write_findings(tmp_path / "findings.csv", found.sorted_rows())
    queues = Queues(photos, str(tmp_path / "report.csv"), str(tmp_path / "findings.csv"))
    client = open_client(photos, queues)
    doubtful = at(photos, "glass/2.png")
    assert queues.list("doubtful") == [doubtful]  # the other was corrected since
    assert queues.list("conflicts") == [at(photos, "glass/1.png")]
    assert queues.list("audit") == [at(photos, "glass/1.png"), at(photos, "metal/1.png")]
    assert post(client, "api/photos", {"ids": [doubtful]}).json["photos"][0]["hint"] == {
        "label": "glass", "suggested": "metal"}
    post(client, "api/label", {"labels": [{"ids": [doubtful], "name": "metal"}]})
    assert queues.list("doubtful") == []
    post(client, "api/undo", {})
    assert queues.list("doubtful") == [doubtful]
    post(client, "api/label", {"labels": [{"ids": [doubtful], "name": "glass"}]})  # it is right
    assert queues.list("doubtful") == [] and photos.undoable == 1
    again = Queues(photos, str(tmp_path / "report.csv"), str(tmp_path / "findings.csv"))
    assert again.list("doubtful") == [] and len(again.list("audit")) == 2
    post(client, "api/undo", {})
    assert queues.list("doubtful") == [doubtful]
    assert Queues(photos, str(tmp_path / "report.csv")).list("doubtful") == [doubtful]
    post(client, "api/redo", {})
    assert queues.list("doubtful") == []
    assert Queues(photos, str(tmp_path / "report.csv")).list("doubtful") == []
    assert labels_in_journal(root) == [
        ("glass", "metal"), ("metal", "glass"), ("glass", "glass"), ("glass", ""),
        ("glass", "glass")]


def labels_in_journal(root):
    with open(root / "labels.log.csv", newline="") as journal:
        return [(row["label"], row["new_label"]) for row in csv.DictReader(journal)]


def test_doubtful_photos_that_are_links(photos, tmp_path):
    (tmp_path / "pool").mkdir()
    os.rename(tmp_path / "photos" / "glass" / "2.png", tmp_path / "pool" / "9.png")
    os.symlink(tmp_path / "pool" / "9.png", tmp_path / "photos" / "glass" / "2.png")
    write_table(tmp_path / "report.csv", doubtful_labels.COLUMNS, [
        [str(tmp_path / "photos" / "glass" / "2.png"), "glass", "metal", "0.1", "0.9",
         "prediction", ""]])
    queues = Queues(photos, str(tmp_path / "report.csv"))
    assert queues.list("doubtful") == [at(photos, "glass/2.png")]


def test_another_photo_at_the_same_path_has_its_own_thumbnail(client, photos, tmp_path):
    """As where a camera's numbers begin again."""
    path = tmp_path / "photos" / "_unsorted" / "1.png"
    first = get(client, f"thumbnail/{at(photos, '_unsorted/1.png')}")
    photos.label([at(photos, "_unsorted/1.png")], "glass")
    write_image(path, size=(300, 300), seed=9)
    photos.rescan()
    second = get(client, f"thumbnail/{at(photos, '_unsorted/1.png')}")
    assert second.status_code == 200 and second.data != first.data
    assert get(client, f"thumbnail/{at(photos, 'glass/1-2.png')}").data == first.data


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX")
def test_class_whose_folder_has_no_utf_8_name(photos, tmp_path):
    """As unpacked from an archive made in another encoding."""
    name = os.fsdecode("玻璃".encode("gbk"))
    os.rename(tmp_path / "photos" / "glass", tmp_path / "photos" / name)
    photos.rescan()
    client = open_client(photos, Queues(photos))
    label = {"labels": [{"ids": [at(photos, "_unsorted/1.png")], "name": name}]}
    assert post(client, "api/label", label).json == {"changed": 1, "done": 1}
    assert len(post(client, "api/queue", {"name": f"class:{name}"}).json["ids"]) == 3
    assert post(client, "api/rename", {"name": name, "new_name": "glass"}).json["changed"] == 3
    assert post(client, "api/class", {"name": name}).status_code == 409


def test_classes(client, photos, tmp_path):
    assert post(client, "api/class", {"name": " wood "}).json == {"name": "wood"}
    assert photos.class_names == ["glass", "metal", "wood"]
    assert post(client, "api/rename", {"name": "glass", "new_name": "metal"}).json["changed"] == 2
    assert photos.class_names == ["metal", "wood"]
    assert post(client, "api/class", {"name": "_unsorted"}).status_code == 409
    assert "no mode reads" in post(client, "api/class", {"name": "_unsorted"}).json["error"]


def test_pictures(client, photos, tmp_path):
    photo = at(photos, "glass/1.png")
    for path, longer_side in ((f"thumbnail/{photo}", 256), (f"photo/{photo}", 400)):
        response = get(client, path)
        image = cv2.imdecode(np.frombuffer(response.data, np.uint8), cv2.IMREAD_COLOR)
        assert response.mimetype == "image/jpeg"
        assert image.shape == (longer_side * 3 // 4, longer_side, 3)
    (tmp_path / "photos" / "metal" / "1.png").write_bytes(b"no picture")
    assert get(client, f"thumbnail/{at(photos, 'metal/1.png')}").status_code == 422
    (tmp_path / "photos" / "metal" / "1.png").unlink()
    assert get(client, f"photo/{at(photos, 'metal/1.png')}").status_code == 422


@pytest.mark.parametrize("path", ["", "api/state", "api/state?since=1", "thumbnail/0"])
def test_nothing_without_the_token(client, path):
    for token in ("", "wrong/", TOKEN[:-1] + "/", TOKEN + "x/", "é/"):
        response = client.get(f"/{token}{path}", headers={"Host": HOST})
        assert response.status_code == 404 and b"photos" not in response.data


@pytest.mark.parametrize("headers, status", [
    ({}, 200), ({"Host": "localhost:8000"}, 200), ({"Host": "evil.example"}, 403),
    ({"Host": "127.0.0.1.evil.example:8000"}, 403), ({"Origin": "http://127.0.0.1:8000"}, 200),
    ({"Origin": "https://evil.example"}, 403), ({"Origin": "http://127.0.0.1:9000"}, 403),
    ({"Origin": "null"}, 403), ({"Sec-Fetch-Site": "cross-site"}, 403),
    ({"Sec-Fetch-Site": "same-origin"}, 200)])
def test_other_hosts_and_origins_are_refused(client, photos, headers, status):
    assert get(client, "api/state", **headers).status_code == status
    body = {"labels": [{"ids": [at(photos, "_unsorted/1.png")], "name": "glass"}]}
    assert post(client, "api/label", body, **headers).status_code == status
    assert photos.undoable == (status == 200)


@pytest.mark.parametrize("body", [
    [], {}, {"ids": 1}, {"ids": [-1]}, {"ids": [99]}, {"ids": [True]}, {"ids": ["0"]},
    {"ids": [0.5]}, {"ids": [[0]]}, {"ids": [0], "name": 1}, {"ids": [0], "name": ["a"]}, "x"])
def test_malformed_requests(client, photos, body):
    good = {"ids": [at(photos, "_unsorted/1.png")], "name": "glass"}
    for content in (body, {"labels": [good, body]}):
        assert post(client, "api/label", content).status_code == 400
    assert photos.undoable == 0


def test_requests_that_are_not_json(client, photos):
    body = b'{"labels": [{"ids": [0], "name": "metal"}]}'
    for content_type in ("text/plain", "application/x-www-form-urlencoded"):
        response = client.post(f"/{TOKEN}/api/label", data=body, content_type=content_type)
        assert response.status_code == 415
    response = client.post(
        f"/{TOKEN}/api/label", data=body[:-3], content_type="application/json")
    assert response.status_code == 400 and photos.undoable == 0


@pytest.mark.parametrize("path", [
    "thumbnail/99", "thumbnail/-1", "photo/../../etc/passwd", "photo/%2e%2e/label.json",
    "photo//etc/passwd", "..", "label.json", "api/photos"])
def test_no_path_of_a_client_is_opened(client, path):
    assert get(client, path).status_code in (404, 405)


def test_headers_let_nothing_else_in(client):
    page = get(client, "")
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy and "'sha256-" in policy
    for response in (page, get(client, "api/state"), client.get("/")):
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] == "no-store"


def test_languages(client, photos):
    assert b'lang="zh-CN"' in get(client, "", **{"Accept-Language": "zh-CN,zh;q=0.9"}).data
    assert b'lang="en"' in get(client, "", **{"Accept-Language": "de"}).data
    chinese = open_client(photos, Queues(photos), "zh")
    assert b'lang="zh-CN"' in get(chinese, "", **{"Accept-Language": "en"}).data


def test_errors_of_the_disk_are_told(client, photos, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device", "/secret/glass/1.png")

    monkeypatch.setattr("data.file_steps.os.rename", fail)
    response = post(client, "api/label", {"labels": [{"ids": [0], "name": "metal"}]})
    assert response.status_code == 409
    assert response.json == {"error": "1.png: No space left on device", "done": 0}
