"""Weights from a mirror: the file that Keras publishes, or one line and an untouched cache."""

import hashlib
import http.server
import os
import socket
import threading

import h5py
import numpy as np
import pytest
from conftest import write_samples

import train
from common.errors import InputError, RunError
from config import parser
from modeling import backbones, downloads, imagenet_weights, weight_download
from modeling.imagenet_weights import imagenet_file
from other import fetch_weights
from training import setup


def weights_bytes(folder, value=1.0):
    path = folder / "made.h5"
    with h5py.File(path, "w") as h5_file:
        h5_file["layers/dense/vars/0"] = np.full(1000, value)
    return path.read_bytes()


class Mirror(http.server.ThreadingHTTPServer):
    """A mirror on the loopback that answers each path as `answers` says."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.asked, self.finish = {}, [], threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        answer = self.server.answers.get(self.path)
        if answer is None:
            self.send_error(404)
        elif callable(answer):
            answer(self)
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    def log_message(self, *words):
        pass


@pytest.fixture
def mirror():
    server = Mirror()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.finish.set()
    server.shutdown()
    server.server_close()
    thread.join(10)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Keras's cache, empty, without a mirror of the whole site."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.delenv(weight_download.VARIABLE, raising=False)
    return tmp_path / "keras" / "models"


@pytest.fixture
def published(tmp_path, monkeypatch):
    """What Keras would publish as the weights of ResNet50 and, without a checksum, MobileNet."""
    content = weights_bytes(tmp_path)
    path, _ = imagenet_weights.FILES["ResNet50"]
    checksum = hashlib.md5(content).hexdigest()
    monkeypatch.setitem(imagenet_weights.FILES, "ResNet50", (path, checksum))
    return content


RESNET = "/resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"
MOBILENET = "/mobilenet/mobilenet_1_0_224_tf_no_top.h5"


@pytest.mark.parametrize("name", ["ResNet50", "MobileNet"])
def test_the_file_comes_once_and_stays(mirror, cache, published, capsys, name):
    place = {"ResNet50": RESNET, "MobileNet": MOBILENET}[name]
    mirror.answers["/keras" + place] = published
    path = weight_download.fetch(name, mirror.url + "/keras/")
    assert path == str(cache / os.path.basename(place))
    assert (cache / os.path.basename(place)).read_bytes() == published
    assert weight_download.fetch(name, mirror.url + "/keras") == path
    assert mirror.asked == ["/keras" + place] and len(os.listdir(cache)) == 1
    found = capsys.readouterr()
    assert (found.out, found.err) == ("", f"downloading {mirror.url}/keras{place}\n")


def test_every_published_file_has_a_place_on_a_mirror():
    """B0 to B7 lie in another folder of Keras's store than the rest: `keras-applications`."""
    addresses = [imagenet_file(name)[1] for name in backbones.TABLE
                 if weight_download.is_needed("imagenet", name)]
    assert len(addresses) == 41
    for address in addresses:
        assert address.count(weight_download.STORE_ROOT) == 1


def test_the_variable_is_for_a_whole_site_and_the_option_goes_before(
        mirror, cache, published, monkeypatch):
    monkeypatch.setenv("WEIGHTS_URL", mirror.url + "/site")
    mirror.answers["/site" + RESNET] = mirror.answers["/mine" + RESNET] = published
    path = weight_download.fetch("ResNet50")
    assert mirror.asked == ["/site" + RESNET]
    os.unlink(path)
    weight_download.fetch("ResNet50", mirror.url + "/mine")
    assert mirror.asked[1:] == ["/mine" + RESNET]
    monkeypatch.setenv("WEIGHTS_URL", "mirror")
    os.unlink(path)
    with pytest.raises(RunError, match="^WEIGHTS_URL: mirror/resnet/.*Invalid URL"):
        weight_download.fetch("ResNet50")


def test_a_damaged_file_in_the_cache_is_brought_again(mirror, cache, published, capsys):
    os.makedirs(cache)
    target = cache / os.path.basename(RESNET)
    target.write_bytes(published[:-1])
    mirror.answers[RESNET] = published
    weight_download.fetch("ResNet50", mirror.url)
    assert target.read_bytes() == published
    assert "is damaged, or another file" in capsys.readouterr().err


# --- mirrors that answer otherwise ------------------------------------------------------


def page(handler):
    handler.send_response(200)
    handler.send_header("Content-Type", "text/html; charset=utf-8")
    handler.end_headers()
    handler.wfile.write(b"<html>Please sign in</html>")


def redirect(target):
    def answer(handler):
        handler.send_response(302)
        handler.send_header("Location", target)
        handler.end_headers()

    return answer


def begin(handler, content):
    """Sends what comes before a body that has the length of `content`."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()


def short(content):
    def answer(handler):
        begin(handler, content)
        handler.wfile.write(content[:-10])

    return answer


def without_length(content):
    def answer(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def silent(handler):
    handler.server.finish.wait(20)


def silent_after(content):
    def answer(handler):
        begin(handler, content)
        handler.wfile.write(content[:100])
        handler.server.finish.wait(20)

    return answer


def dripping(content):
    def answer(handler):
        begin(handler, content)
        for byte in content:
            try:
                handler.wfile.write(bytes([byte]))
            except OSError:
                return
            if handler.server.finish.wait(0.05):
                return

    return answer


ANSWERS = {
    "a page": (lambda content: page, "answered text/html, not an HDF5 file"),
    "404": (lambda content: None, "answered 404 Not Found"),
    "500": (lambda content: lambda handler: handler.send_error(500), "answered 500 Internal"),
    "redirects in a circle": (lambda content: redirect(RESNET), "redirects more than 5 times"),
    "redirects to a page": (lambda content: redirect("/sign_in"), "answered text/html"),
    "redirects to a file of its own machine": (
        lambda content: redirect("file:///etc/hostname"), "No connection adapters"),
    "another file": (lambda content: content[:-1] + b"x", "another file than the published"),
    "ends early": (short, "the answer ends too early"),
    "ends early, without its length": (
        lambda content: without_length(content[:-10]), "another file than the published"),
    "nothing": (lambda content: b"", "answered nothing"),
    "half a signature": (lambda content: content[:4], "answered nothing"),
    "no answer": (lambda content: silent, "no answer within 0.5 s"),
    "silence after a part": (silent_after, "no answer within 0.5 s"),
    "slow": (dripping, "sends less than 10 kB per second"),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_any_other_answer_is_one_line_and_leaves_the_cache_alone(
        mirror, cache, published, monkeypatch, kind):
    monkeypatch.setattr(downloads, "SILENCE_SECONDS", 0.5)
    monkeypatch.setattr(downloads, "GRACE_SECONDS", 0.3)
    answer, reason = ANSWERS[kind]
    mirror.answers.update({RESNET: answer(published), "/sign_in": page})
    os.makedirs(cache)
    target = cache / os.path.basename(RESNET)
    target.write_bytes(b"as it was")
    with pytest.raises(RunError) as caught:
        weight_download.fetch("ResNet50", mirror.url)
    message = str(caught.value)
    assert message.startswith(f"--weights_url: {mirror.url}{RESNET}: ") and reason in message
    assert "\n" not in message and len(message) < 300
    assert os.listdir(cache) == [target.name] and target.read_bytes() == b"as it was"
    assert len(mirror.asked) <= 1 + 5  # however often it redirects


@pytest.mark.parametrize("kind", ["ends early", "ends early, without its length"])
def test_without_a_checksum_a_part_is_no_file(mirror, cache, published, kind):
    mirror.answers[MOBILENET] = ANSWERS[kind][0](published)
    with pytest.raises(RunError, match="ends too early"):
        weight_download.fetch("MobileNet", mirror.url)
    assert os.listdir(cache) == []


def test_more_than_any_weights_is_too_large(mirror, cache, published, monkeypatch):
    monkeypatch.setattr(weight_download, "MOST_BYTES", 5000)
    mirror.answers[RESNET] = published
    with pytest.raises(RunError, match="is larger than 5e-06 GB"):
        weight_download.fetch("ResNet50", mirror.url)
    assert os.listdir(cache) == []


def test_a_mirror_that_is_not_there(cache):
    with socket.socket() as taken:  # bound, but it does not listen
        taken.bind(("127.0.0.1", 0))
        url = f"http://user:secret@127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(RunError, match="--weights_url: http://127.0.0.1:.*refused") as caught:
            weight_download.fetch("ResNet50", url)
    assert "secret" not in str(caught.value)


def test_a_cache_that_cannot_be_written(mirror, cache, published):
    mirror.answers[RESNET] = published
    cache.parent.parent.mkdir(exist_ok=True)
    cache.parent.write_bytes(b"")  # a file in the folder's place
    with pytest.raises(RunError, match="Not a directory|File exists"):
        weight_download.fetch("ResNet50", mirror.url)


def test_without_mirror_and_network_the_line_says_what_to_do(cache, monkeypatch):
    monkeypatch.setattr(imagenet_weights, "STORE", "http://127.0.0.1:9/keras-applications/")
    with pytest.raises(RunError) as caught:
        weight_download.fetch("ResNet50")
    message = str(caught.value)
    assert "\n" not in message
    for fact in ("ResNet50", "refused", "--weights none", "--weights_url", "--weights PATH",
                 str(cache), os.path.basename(RESNET)):
        assert fact in message


# --- the option ---------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["mirror", "ftp://mirror/x", "http://", "http://a:b/", "http://a/?x",
                                 "http://a b/", "https://a/#x", "file:///srv"])
def test_what_is_no_address_is_refused(url):
    with pytest.raises(InputError, match="--weights_url: .*it takes an address such as https://"):
        parser.parse("fetch_weights", ["--weights_url", url])


@pytest.mark.parametrize("words, facts", [
    (["--backbone", "EfficientNetLite0"], "--backbone EfficientNetLite0 with --weights imagenet"),
    (["--weights", "none"], "with --weights none"),
])
def test_an_address_that_nothing_is_taken_from_is_refused(words, facts):
    options = parser.parse("train", ["--weights_url", "http://mirror", *words])
    with pytest.raises(InputError, match=f"--weights_url: .*{facts}"):
        setup.resolve(options)


def test_fetch_weights_takes_a_mirror(mirror, cache, published, capsys):
    mirror.answers[RESNET] = published
    fetch_weights.main(parser.parse("fetch_weights", [
        "--backbone", "ResNet50", "--weights_url", mirror.url]))
    assert str(cache / os.path.basename(RESNET)) in capsys.readouterr().out


def test_train_takes_a_mirror_before_it_starts_keras(mirror, cache, tmp_path, capsys):
    mirror.answers["/efficientnetb0_notop.h5"] = page
    write_samples(tmp_path / "train", 2)
    options = parser.parse("train", [
        "--train_data", str(tmp_path / "train"), "--save_dir", str(tmp_path / "runs"),
        "--weights_url", mirror.url])
    with pytest.raises(RunError, match="answered text/html, not an HDF5 file"):
        train.fit(options)
    assert "starting Keras" not in capsys.readouterr().err and not (tmp_path / "runs").exists()
