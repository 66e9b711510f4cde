"""Photos in object stores: moto's S3 behind a proxy that fails on demand, and a server of files."""

import contextlib
import errno
import functools
import hashlib
import json
import logging
import os
import random
import subprocess
import sys
import tarfile
import threading
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT, write_image
from faulty_store import FaultyStore

import run
from common.errors import ImageError, InputError, RunError
from data import file_systems, object_stores, remote_cache, remote_places
from data.augmentation import Augmentation
from data.geometry import Preprocessing
from data.object_stores import BROKEN_TRIES
from data.prefetching import Reading
from data.read_ahead import READS_AT_ONCE, ReadAhead
from data.remote_cache import RangeCache
from data.remote_places import PhotoRange
from data.samples import Samples
from data.splitting import map_images
from data_gen_label import ImageBatches, Variation

pytest.importorskip("moto")
NEEDS_SOCKETS = pytest.mark.skipif(os.name != "posix", reason="needs inheritable sockets")
PLACE = "s3://bucket/photos"
SHARDS, PHOTOS = 3, 12  # per shard


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """(folder of tar files, addresses in a random order, dict of address -> bytes)."""
    folder, generator, contents = tmp_path_factory.mktemp("packed"), random.Random(3), {}
    for shard in range(SHARDS):
        name = f"photos-{shard:05}.tar"
        with tarfile.open(folder / name, "w") as tar:
            for photo in range(PHOTOS):
                path = folder / "photo"
                path.write_bytes(generator.randbytes(generator.randrange(3000, 20_000)))
                tar.add(path, f"{shard}-{photo}.jpg")
        with tarfile.open(folder / name) as tar:
            for member in tar:
                content = tar.extractfile(member).read()
                address = (f"{PLACE}/{name}:{member.offset_data}:{member.size}:"
                           f"{zlib.crc32(content):08x}")
                contents[address] = content
    os.unlink(folder / "photo")
    addresses = list(contents)
    generator.shuffle(addresses)
    return str(folder), addresses, contents


@pytest.fixture(scope="module")
def moto_store(packed):
    object_stores.forget_all()
    store = FaultyStore()
    for name in os.listdir(packed[0]):
        with open(os.path.join(packed[0], name), "rb") as file:
            store.forward("PUT", f"/bucket/photos/{name}", {}, file.read())
    yield store
    store.close()


@pytest.fixture
def cache_dir(tmp_path):
    return str(tmp_path / "cache")


@pytest.fixture
def store(moto_store, cache_dir, monkeypatch):
    """The store without faults, no pauses, and an empty cache."""
    for name, value in {"AWS_ENDPOINT_URL": moto_store.url, "AWS_ACCESS_KEY_ID": "id",
                        "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1",
                        "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "none",
                        "AWS_SHARED_CREDENTIALS_FILE": "none"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(object_stores, "FIRST_PAUSE", 0)
    moto_store.plan, moto_store.delay = lambda request: None, 0
    moto_store.requests.clear()
    moto_store.most_at_once = 0
    remote_places.configure(cache_dir)
    yield moto_store
    remote_places.configure()


@pytest.fixture
def fresh():
    """Clients of a store that have read the environment as it is in this test, and no later one."""
    object_stores.forget_all()
    yield object_stores.forget_all
    object_stores.forget_all()


def read(address):
    return remote_places.read_photo(address)


def read_all(packed):
    """One epoch, read ahead: every photo has to be right."""
    _, addresses, contents = packed
    remote_places.announce(addresses)
    for address in addresses:
        assert read(address) == contents[address], address


# --- reading --------------------------------------------------------------------------


def test_every_photo_is_right_and_read_once(store, packed):
    store.delay = 0.01
    read_all(packed)
    assert len(store.requests) == len(store.ranged_reads) == SHARDS * PHOTOS
    assert 4 < store.most_at_once <= READS_AT_ONCE


def test_without_announcing(store, packed):
    _, addresses, contents = packed
    assert read(addresses[0]) == contents[addresses[0]]
    shard, offset, length, _ = addresses[1].rsplit(":", 3)
    assert remote_places.read_range(shard, int(offset), int(length)) == contents[addresses[1]]
    assert remote_places.read_range(shard, 0, 0) == b""


def test_passes_over_all_photos_read_ahead_on_one_thread(store, packed):
    store.delay = 0.02
    _, addresses, contents = packed
    assert list(map_images(read, addresses, "reading")) == [contents[one] for one in addresses]
    assert store.most_at_once > 4 and len(store.requests) == SHARDS * PHOTOS
    assert list(map_images(str.upper, ["a.jpg", "b.jpg"], "reading")) == ["A.JPG", "B.JPG"]


@pytest.mark.parametrize("fault", ["reset", "cut", "short", "flip", "500", "503", "429"])
def test_faults_that_pass(store, packed, fault):
    store.plan = lambda request: fault if request.number % 3 == 0 else None
    read_all(packed)
    assert len(store.requests) > SHARDS * PHOTOS


def test_all_faults_at_random(store, packed):
    generator = random.Random(0)
    faults = ("reset", "cut", "short", "flip", "500", "503", "429", None, None, None, None, None)
    store.plan = lambda request: generator.choice(faults)
    read_all(packed)


@pytest.mark.parametrize("fault, words", [
    ("403", "access is denied (403 AccessDenied)"), ("404", "does not exist there"),
])
def test_refusals_are_final(store, packed, fault, words):
    store.plan = lambda request: fault
    shard, offset, length, _ = packed[1][0].rsplit(":", 3)
    with pytest.raises(InputError) as error:
        read(packed[1][0])
    assert words in str(error.value) and "\n" not in str(error.value)
    last = int(offset) + int(length) - 1
    assert str(error.value).startswith(f"{shard}, bytes {offset} to {last}: ")
    assert len(store.requests) == 1


def test_a_shard_that_is_not_there(store):
    with pytest.raises(InputError, match="photos-00009.tar, bytes 512 to 611: does not exist"):
        remote_places.read_range(f"{PLACE}/photos-00009.tar", 512, 100)


def test_a_shard_that_ends_before(store, packed):
    size = os.path.getsize(os.path.join(packed[0], "photos-00000.tar"))
    with pytest.raises(InputError, match="the file ends before that"):
        remote_places.read_range(f"{PLACE}/photos-00000.tar", size + 10, 100, 1)
    with pytest.raises(ImageError, match="10 of 100 bytes came"):
        remote_places.read_range(f"{PLACE}/photos-00000.tar", size - 10, 100, 1)


def test_bytes_that_stay_wrong_are_no_photo(store, packed, cache_dir):
    store.plan = lambda request: "flip"
    shard, offset, _, checksum = packed[1][0].rsplit(":", 3)
    with pytest.raises(ImageError) as error:
        read(packed[1][0])
    assert f"{shard}, bytes {offset} to" in str(error.value) and checksum in str(error.value)
    assert len(store.requests) == object_stores.BROKEN_TRIES
    assert not os.path.exists(cache_dir)  # nothing wrong is kept
    store.plan = lambda request: None
    read_all(packed)


def test_an_outage_ends_with_one_line(store, packed, monkeypatch, capsys):
    monkeypatch.setattr(object_stores, "_said_at", [-60.0])
    store.plan = lambda request: "500"
    words = r"no right answer now \(500 InternalError\).*tried 10 times"
    with pytest.raises(RunError, match=words):
        read(packed[1][0])
    assert len(store.requests) == object_stores.TRIES
    assert capsys.readouterr().err.count("trying again") == 1  # and not once for each try


def test_pauses_double_up_to_a_bound_and_differ(monkeypatch):
    pauses = []
    monkeypatch.setattr(object_stores.time, "sleep", pauses.append)
    fault = object_stores.Fault("passing", "500")
    for attempt in range(1, 13):
        object_stores._pause("a", fault, attempt)
    bounds = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 20, 20, 20, 20]  # seconds
    assert all(bound / 2 <= pause <= bound for pause, bound in zip(pauses, bounds))
    assert len(set(pauses[-4:])) == 4  # not all at the same moment
    object_stores._pause("a", fault._replace(retry_after=7.0), 1)
    assert pauses[-1] == 7


def test_retry_after(monkeypatch):
    def fault(value):
        error = OSError("slow down")
        error.__cause__ = Exception()
        error.__cause__.response = {
            "Error": {"Code": "SlowDown"},
            "ResponseMetadata": {"HTTPStatusCode": 503, "HTTPHeaders": {"retry-after": value}}}
        return object_stores.explain(error)

    assert fault("3") == ("passing", "503 SlowDown", 3.0)
    assert fault("9999").retry_after == object_stores.MOST_RETRY_AFTER
    assert fault("Mon, 30 Nov 2026 05:00:00 GMT").retry_after == 0


class OtherStoreError(Exception):
    """As gcsfs (`code`) and Azure's package (`status_code`) have them."""


class ClientAuthenticationError(Exception):
    """Of Azure's package."""


@pytest.mark.parametrize("attribute, value, kind", [
    ("code", 429, "passing"), ("code", "503", "passing"), ("code", 404, "missing"),
    ("status_code", 403, "forbidden"), ("status_code", 401, "expired"),
    ("status_code", 500, "passing"), ("status_code", 416, "end"), ("code", 400, "permanent"),
])
def test_answers_of_other_stores(attribute, value, kind):
    error = OtherStoreError("text")
    setattr(error, attribute, value)
    assert object_stores.explain(error).kind == kind


@pytest.mark.parametrize("error, kind", [
    (ConnectionResetError(errno.ECONNRESET, "reset"), "passing"), (TimeoutError(), "passing"),
    (PermissionError("no"), "forbidden"), (OSError("Forbidden: bucket/photo"), "forbidden"),
    (ValueError("wrong"), "permanent"),
    (ClientAuthenticationError("who"), "credentials"),
    (ValueError("unable to connect to account for Must provide either ..."), "credentials"),
])
def test_other_errors(error, kind):
    assert object_stores.explain(error).kind == kind


# --- credentials and packages ---------------------------------------------------------


def test_credentials_that_expire_are_read_anew(store, packed, tmp_path, monkeypatch, fresh):
    """As a service does that writes new ones into the file every hour."""
    file = tmp_path / "credentials"

    def write(key):
        file.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = s\n")

    write("OLD")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    remote_places.configure(cache_gigabytes=0)
    read(packed[1][0])
    write("NEW")
    store.plan = lambda request: "expired" if "Credential=OLD" in request.signature else None
    read_all(packed)
    assert "Credential=NEW" in store.requests[-1].signature
    store.plan = lambda request: "expired"
    with pytest.raises(RunError, match="credentials have expired .*; renew them; AWS_PROFILE"):
        object_stores.request(PLACE, lambda store: store.cat_file(f"{PLACE}/a"), tries=2)


def test_without_credentials(store, packed, monkeypatch, fresh):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(InputError, match=r"no valid credentials \(.*\); AWS_PROFILE, or AWS_ACC"):
        read(packed[1][0])
    with pytest.raises(InputError, match="index.json: no valid credentials"):
        remote_places.read_whole(f"{PLACE}/index.json")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    fresh()
    with pytest.raises(InputError, match=r"no valid credentials \(.*nobody.*\)"):
        read(packed[1][0])


def test_google_is_asked_once_and_prints_nothing(caplog):
    """gcsfs wraps its requests in tries of its own, and logs what fails with a traceback."""
    calls = []

    def again_and_again(ask):
        @functools.wraps(ask)
        def ask_six_times(self, path):
            for _ in range(6):
                with contextlib.suppress(OSError):
                    return ask(self, path)
                logging.getLogger("gcsfs.retry").error("out of retries")
            raise OSError("six times")

        return ask_six_times

    class Store:
        @again_and_again
        def _request(self, path):
            calls.append(path)
            raise OSError("refused")

    google_store = Store()
    file_systems.ask_google_once(google_store)
    with pytest.raises(OSError, match="refused"):
        google_store._request("bucket/photo")
    logging.getLogger("gcsfs").warning("no credentials")
    assert calls == ["bucket/photo"] and not caplog.records
    file_systems.ask_google_once(type("Newer", (), {"_request": Store._request.__wrapped__})())


def test_azure_is_asked_once():
    policies = [SimpleNamespace(total_retries=10, backoff=15), SimpleNamespace(name="headers")]
    pipeline = SimpleNamespace(_impl_policies=policies)
    client = SimpleNamespace(_pipeline=pipeline)
    file_systems.ask_azure_once(SimpleNamespace(service_client=client))
    assert policies == [SimpleNamespace(total_retries=0, backoff=15),
                        SimpleNamespace(name="headers")]
    file_systems.ask_azure_once(SimpleNamespace(service_client=object()))  # of another version


@pytest.mark.parametrize("scheme, module, words", [
    ("s3", "fsspec", "s3fs is not installed .*: bash sh/setup.sh remote installs"),
    ("s3", "s3fs", "s3fs is not installed .*: bash sh/setup.sh remote installs"),
    ("https", "aiohttp", "aiohttp is not installed .*: bash sh/setup.sh remote installs"),
    ("gs", "gcsfs", r"gcsfs is not installed .*: python -m pip install gcsfs==20\d\d\.\d+\.\d+$"),
    ("az", "adlfs", "adlfs is not installed .*: python -m pip install adlfs$"),
])
def test_packages_that_are_missing(store, fresh, monkeypatch, scheme, module, words):
    import fsspec  # noqa: F401

    registry = sys.modules["fsspec.registry"]._registry
    monkeypatch.delitem(registry, scheme, raising=False)  # known from before
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=words):
        remote_places.read_whole(f"{scheme}://host/photos/index.json")


def test_nothing_is_imported_for_local_data():
    probe = ("import sys, run; from data import remote_places; remote_places.configure('x');"
             "assert not remote_places.is_remote('photos'); run.main(['--help']);"
             "print(sorted({'fsspec', 's3fs', 'aiohttp', 'botocore'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


@pytest.mark.parametrize("text, expected", [
    ("s3://bucket/photos", True), ("gs://b/p", True), ("az://c/p", True), ("http://h/p", True),
    ("https://h/p", True), ("photos", False), ("/photos", False), ("file:///photos", False),
    ("C:/photos", False), ("s3:/bucket", False),
])
def test_what_is_remote(text, expected):
    assert remote_places.is_remote(text) is expected


# --- the copies on a local disk -------------------------------------------------------


def stored_bytes(folder):
    return sum(os.stat(os.path.join(parent, name)).st_blocks * 512
               for parent, _, names in os.walk(folder) for name in names)


def test_later_epochs_and_trainings_ask_for_nothing(store, packed, cache_dir):
    read_all(packed)
    store.requests.clear()
    read_all(packed)
    remote_places.configure(cache_dir)
    read_all(packed)
    assert store.requests == []
    (place,) = os.listdir(cache_dir)
    assert sorted(os.listdir(os.path.join(cache_dir, place))) == [
        f"photos-{shard:05}.tar" for shard in range(SHARDS)]


def test_nothing_is_kept_with_0(store, packed, cache_dir):
    remote_places.configure(cache_dir, 0)
    read_all(packed)
    read_all(packed)
    assert len(store.requests) == 2 * SHARDS * PHOTOS and not os.path.exists(cache_dir)


def test_damaged_copies_are_read_anew(store, packed, cache_dir):
    read_all(packed)
    (place,) = os.listdir(cache_dir)
    path = os.path.join(cache_dir, place, "photos-00001.tar")
    with open(path, "r+b") as file:
        file.write(bytes(os.path.getsize(path)))
    store.requests.clear()
    read_all(packed)
    assert len(store.requests) == PHOTOS
    read_all(packed)
    assert len(store.requests) == PHOTOS


KILLED = """
import builtins, os, signal, sys
from data import remote_cache

class Half:
    def __init__(self, file):
        self.file = file
    def __enter__(self):
        return self
    def __exit__(self, *error):
        self.file.close()
    def seek(self, offset):
        self.file.seek(offset)
    def write(self, content):
        self.file.write(content[:len(content) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

remote_cache.open = lambda *words, **more: Half(builtins.open(*words, **more))
cache = remote_cache.RangeCache(sys.argv[1], 10**9)
cache.write("s3://bucket/photos/photos-00000.tar", 512, b"0123456789" * 1000)
"""


def test_killed_in_the_middle_of_writing(tmp_path):
    content, shard = b"0123456789" * 1000, f"{PLACE}/photos-00000.tar"
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT)
    assert done.returncode == -9
    cache = RangeCache(str(tmp_path), 10**9)
    assert os.path.getsize(cache.path_of(shard)) == 512 + 5000
    assert cache.read(shard, 512, len(content), zlib.crc32(content)) is None
    cache.write(shard, 512, content)
    assert cache.read(shard, 512, len(content), zlib.crc32(content)) == content


def test_bounded_and_what_is_in_stays_in(tmp_path):
    cache, content = RangeCache(str(tmp_path), 1_000_000), os.urandom(8192)
    checksum = zlib.crc32(content)
    for number in range(400):
        cache.write(f"{PLACE}/photos-{number % 7:05}.tar", 8192 * number, content)
    kept = [cache.read(f"{PLACE}/photos-{number % 7:05}.tar", 8192 * number, 8192, checksum)
            for number in range(400)]
    assert stored_bytes(tmp_path) <= 1_000_000
    # Blocks of 4,096 bytes: none is lost to rounding, all but the last fit
    assert [content is not None for content in kept] == [
        number < 1_000_000 // 8192 for number in range(400)]


def test_places_that_nobody_reads_make_room(tmp_path):
    cache, content = RangeCache(str(tmp_path), 10**9), os.urandom(100_000)
    places = [f"s3://bucket/{name}/photos-00000.tar" for name in ("old", "older", "busy", "new")]
    for place in places[:3]:
        cache.write(place, 0, content)
    for place, age in zip(places, (5000, 9000, 10)):
        folder = os.path.dirname(cache.path_of(place))
        then = os.stat(folder).st_mtime - age
        os.utime(folder, (then, then))

    def there(reader):
        return [os.path.exists(reader.path_of(place)) for place in places]

    cache = RangeCache(str(tmp_path), 320_000)
    cache.write(places[3], 0, content)
    assert there(cache) == [True, False, True, True]
    cache.write(places[3], 200_000, content)
    assert there(cache) == [False, False, True, True]
    cache.write(places[3], 400_000, content)  # what is left is being read
    assert there(cache) == [False, False, True, True]
    assert cache.read(places[3], 400_000, 100_000, zlib.crc32(content)) is None
    assert len(os.listdir(tmp_path)) == 2


def test_room_is_left_on_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(remote_cache, "LEAST_FREE", 1 << 62)
    cache = RangeCache(str(tmp_path), 10**9)
    cache.write(f"{PLACE}/photos-00000.tar", 0, b"content")
    assert cache.read(f"{PLACE}/photos-00000.tar", 0, 7, zlib.crc32(b"content")) is None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_cannot_be_written(store, packed, cache_dir, monkeypatch, capsys, number):
    def refuse(path, *words):
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(remote_cache.os, "open", refuse)
    read_all(packed)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"note: --cache_dir: {cache_dir}: {os.strerror(number)}: photos that are not "
                     "in it are read from the store each time"]


READER = """
import json, sys, zlib
from data import remote_places
addresses = json.load(open(sys.argv[2]))
remote_places.configure(sys.argv[1])
remote_places.announce(addresses)
assert all(f"{zlib.crc32(remote_places.read_photo(a)):08x}" == a[-8:] for a in addresses)
"""


def test_two_processes_share_a_folder(store, packed, cache_dir, tmp_path):
    (tmp_path / "addresses").write_text(json.dumps(packed[1][::-1]))
    other = subprocess.Popen([sys.executable, "-c", READER, cache_dir, tmp_path / "addresses"],
                             cwd=ROOT)
    read_all(packed)
    assert other.wait(300) == 0
    store.requests.clear()
    read_all(packed)
    assert store.requests == []


@pytest.mark.parametrize("mode, words", [
    ("train", []), ("eval", ["--run", "r", "--data", "d"]), ("embed", ["--data", "d"]),
    ("crossval", ["--data", "d"]), ("mean_std", ["--source", "s"]),
    ("statistics", ["--source", "s"]), ("audit", ["--source", "s"]),
])
def test_options_reach_the_cache(monkeypatch, tmp_path, mode, words):
    asked = []

    def main(options):
        asked.append(dict(remote_places._settings))

    monkeypatch.setattr(run, "_task_module", lambda *words: SimpleNamespace(main=main))
    run.main(["--mode", mode, *words, "--json"])
    run.main(["--mode", mode, *words, "--cache_dir", str(tmp_path), "--cache_gigabytes", "2.5",
              "--json"])
    defaults, given = asked
    assert defaults == {"cache_dir": None, "cache_gigabytes": remote_places.CACHE_GIGABYTES}
    assert given == {"cache_dir": str(tmp_path), "cache_gigabytes": 2.5}
    remote_places.configure()


def test_the_usual_folder(monkeypatch):
    monkeypatch.setenv("KERAS_HOME", "/cached")
    assert remote_places.cache_folder() == "/cached/photos"
    monkeypatch.delenv("KERAS_HOME")
    assert remote_places.cache_folder() == os.path.expanduser("~/.keras/photos")


# --- reading ahead --------------------------------------------------------------------


def item(number, length=10):
    return PhotoRange("shard", number, length)


def test_a_read_that_has_begun_is_waited_for():
    begun, go, reads = threading.Event(), threading.Event(), []

    def slow(photo):
        reads.append(photo)
        begun.set()
        assert go.wait(30)
        return b"content"

    ahead = ReadAhead(slow, 1)
    ahead.announce([item(0), item(1)])
    assert begun.wait(30)
    threading.Timer(0.05, go.set).start()
    assert ahead.take(item(0)) == b"content"
    assert reads[0] == item(0)
    assert ahead.take(item(2)) is None  # never announced
    assert ahead.take(item(0)) is None  # taken once
    ahead.close()


def test_what_has_not_begun_is_the_callers():
    begun, go, reads = threading.Event(), threading.Event(), []

    def slow(photo):
        reads.append(photo.offset)
        begun.set()
        return go.wait(30) and b"x"

    ahead = ReadAhead(slow, 1)
    ahead.announce(map(item, range(3)))
    assert begun.wait(30)
    assert ahead.take(item(1)) is None
    go.set()
    assert ahead.take(item(0)) == b"x"
    ahead.announce([item(3)])
    while 3 not in reads:
        begun.wait(0.01)
    assert reads == [0, 2, 3]
    ahead.close()


def test_memory_is_bounded_and_what_nobody_takes_goes():
    ready = threading.Semaphore(0)

    def content(photo):
        ready.release()
        return bytes(photo.length)

    ahead = ReadAhead(content, 4, most_bytes=100)
    ahead.announce(item(number, 40) for number in range(6))
    for _ in range(2):
        assert ready.acquire(timeout=30)
    assert not ready.acquire(timeout=0.05)  # 80 of 100 bytes are held
    assert ahead.take(item(4, 40)) is None  # overtaken: the oldest make room
    assert ready.acquire(timeout=30)
    ahead.announce([item(9, 1000)])  # larger than all that may be held
    while ahead.take(item(9, 1000)) is None:
        ahead.announce([item(9, 1000)])
        ready.acquire(timeout=0.05)
    ahead.close()


def test_errors_are_raised_where_the_photo_is_taken():
    def fail(photo):
        raise RunError(f"no {photo.offset}")

    ahead = ReadAhead(fail, 1)
    ahead.announce([item(7)])
    content = None
    with pytest.raises(RunError, match="no 7"):
        while content is None:
            content = ahead.take(item(7))
            ahead.announce([item(7)])
    ahead.close()


# --- batches --------------------------------------------------------------------------


def put_file(path, address):
    object_stores.request(address, lambda there: there.put_file(path, address))


@pytest.fixture
def batches(store, tmp_path):
    """(function (folder or None, workers, **reading) -> batches, addresses): ten pictures of one
    shard in the store, or of a folder."""
    names = [f"{number}.png" for number in range(10)]
    for number, name in enumerate(names):
        write_image(tmp_path / name, seed=number)
    with tarfile.open(tmp_path / "pictures-00000.tar", "w") as tar:
        for name in names:
            tar.add(tmp_path / name, name)
    put_file(str(tmp_path / "pictures-00000.tar"), f"{PLACE}/pictures-00000.tar")
    with tarfile.open(tmp_path / "pictures-00000.tar") as tar:
        addresses = [
            f"pictures-00000.tar:{member.offset_data}:{member.size}:"
            f"{zlib.crc32(tar.extractfile(member).read()):08x}" for member in tar]
    made = []

    def make(folder, workers, **reading):
        samples = Samples(folder or PLACE, names if folder else addresses, np.zeros(10, np.int32))
        made.append(ImageBatches(
            samples, 2, 4, Preprocessing(12), Variation("uniform", Augmentation(True, rotation=9)),
            reading=Reading(workers, **reading)))
        return made[-1]

    store.requests.clear()
    yield make, addresses, str(tmp_path)
    for one in made:
        one.close()


@pytest.mark.parametrize("workers", [2, pytest.param(6, marks=NEEDS_SOCKETS)])
def test_batches_are_those_of_files(store, batches, workers):
    make, _, folder = batches
    generator = random.Random(1)
    store.plan = lambda request: generator.choice(("reset", "flip", "500", None, None, None))
    local, remote = make(folder, 1), make(None, workers)
    for epoch in (0, 1):
        local.epoch = remote.epoch = epoch
        for index in range(len(local)):
            assert all(map(np.array_equal, local[index], remote[index]))
    assert remote.undecodable == {}


def test_batches_are_read_ahead(store, batches):
    store.delay = 0.02
    make, _, _ = batches
    store.most_at_once = 0
    ahead = make(None, 1, queue=0)
    ahead[0]
    for index in range(1, len(ahead)):
        ahead[index]
    assert store.most_at_once > 4  # photos of more than one batch
    assert len(store.ranged_reads) == 10


@pytest.mark.parametrize("workers", [2, pytest.param(6, marks=NEEDS_SOCKETS)])
def test_damaged_photos_are_left_out_and_failures_end(store, batches, workers):
    make, addresses, _ = batches
    _, offset, _, _ = addresses[3].split(":")
    store.plan = lambda request: "flip" if f"bytes={offset}-" in (request.range or "") else None
    left_out = make(None, workers)
    weights = [left_out[index][2].sum() for index in range(len(left_out))]
    assert sum(weights) == 9 and list(left_out.undecodable) == [3]
    assert f"pictures-00000.tar, bytes {offset} to" in str(left_out.undecodable[3])
    remote_places.configure(cache_gigabytes=0)
    store.plan = lambda request: "403"
    refused = make(None, workers)
    with pytest.raises(InputError, match="pictures-00000.tar, bytes .*: access is denied"):
        refused[0]
    assert isinstance(refused.error, InputError)  # as Keras's wrapper hides the first


# --- whole files ----------------------------------------------------------


def test_copies_follow_the_store(store, cache_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(remote_places, "PART_BYTES", 10_000)
    address, file = f"{PLACE}/index.npy", tmp_path / "index.npy"

    def put(content):
        file.write_bytes(content)
        put_file(str(file), address)
        store.requests.clear()

    def copy():
        path = remote_places.local_copy(address)
        assert os.listdir(os.path.dirname(path)) == [os.path.basename(path)]
        with open(path, "rb") as copied:
            return copied.read(), len(store.ranged_reads)

    first, second = os.urandom(95_000), os.urandom(95_000)
    put(first)
    assert copy() == (first, 10)
    assert copy() == (first, 10)  # the second time only the version is asked for
    put(second)
    assert copy() == (second, 10)
    store.plan = lambda request: "cut" if request.number % 4 == 1 else None
    path = remote_places.local_copy(address)
    with open(path, "r+b") as damaged:
        damaged.write(b"damaged")
    assert copy()[0] == second
    store.plan = lambda request: None
    put(b"")
    assert copy() == (b"", 0)


@pytest.mark.parametrize("part_bytes", [3000, 10_000])
def test_a_copy_that_came_damaged_is_brought_again(store, tmp_path, monkeypatch, part_bytes):
    """In parts, of which nobody but us has a checksum, or as a whole, of which the store has."""
    monkeypatch.setattr(remote_places, "PART_BYTES", part_bytes)
    part_count = -(-9000 // part_bytes)
    address, file = f"{PLACE}/other.npy", tmp_path / "other.npy"
    content = os.urandom(9000)
    file.write_bytes(content)
    put_file(str(file), address)
    store.requests.clear()
    first_reads = []  # the parts come side by side: which is the first to come is open

    def plan(request):
        if request.range and request.range.startswith("bytes=0-"):
            first_reads.append(request)
            return "flip" if len(first_reads) == 1 else None
        return None

    store.plan = plan
    path = remote_places.local_copy(address, hashlib.sha256(content).hexdigest())
    with open(path, "rb") as copied:
        assert copied.read() == content and len(store.ranged_reads) > part_count
    assert os.listdir(os.path.dirname(path)) == [os.path.basename(path)]
    store.plan = lambda request: None
    path = remote_places.local_copy(address, "0" * 64)  # of another file: whoever asks refuses it
    assert os.path.exists(path) and len(store.ranged_reads) >= part_count * (1 + BROKEN_TRIES)


def test_a_copy_that_cannot_be_written(store, tmp_path):
    (tmp_path / "file").write_text("")
    remote_places.configure(str(tmp_path / "file"))
    with pytest.raises(InputError, match="--cache_dir: .*file.* cannot be written"):
        remote_places.local_copy(f"{PLACE}/photos-00000.tar")


def test_a_bucket_that_is_not_there(store):
    with pytest.raises(InputError, match="index.json: does not exist there"):
        remote_places.read_whole("s3://nowhere/photos/index.json")


# --- web servers ----------------------------------------------------------------------


@pytest.fixture
def web(packed, store):
    servers = []

    def serve(**settings):
        servers.append(FaultyStore(packed[0], **settings))
        return servers[-1]

    yield serve
    for server in servers:
        server.close()


def test_a_place_on_a_web_server(web, packed):
    server = web()
    folder, addresses, contents = packed
    by_http = [address.replace(PLACE, server.url) for address in addresses]
    faults = ("reset", "cut", "short", "flip", "500", "503", "429")
    server.plan = lambda request: (faults[request.number // 2 % len(faults)]
                                   if request.number % 2 else None)
    remote_places.announce(by_http)
    for address, own in zip(by_http, addresses):
        assert read(address) == contents[own]
    server.plan = lambda request: None
    server.requests.clear()
    for address, own in zip(by_http, addresses):
        assert read(address) == contents[own]
    assert server.requests == []
    with open(os.path.join(folder, "photos-00000.tar"), "rb") as file:
        shard = file.read()
    assert remote_places.read_whole(f"{server.url}/photos-00000.tar") == shard
    with open(remote_places.local_copy(f"{server.url}/photos-00000.tar"), "rb") as file:
        assert file.read() == shard


def test_a_server_without_ranges_is_refused(web, packed):
    server = web(ranges=False)
    words = "answers 200 with the whole file .*; allowed are"
    with pytest.raises(InputError, match=words) as error:
        read(packed[1][0].replace(PLACE, server.url))
    assert "\n" not in str(error.value) and len(server.requests) == 1


def test_refusals_of_a_web_server(web):
    server = web()
    with pytest.raises(InputError, match="index.json: does not exist there"):
        remote_places.read_whole(f"{server.url}/index.json")
    server.plan = lambda request: "401"
    address = f"{server.url}/index.json".replace("//", "//me:secret@")
    with pytest.raises(InputError, match=r"access is denied \(401") as error:
        remote_places.read_whole(address)
    assert "secret" not in str(error.value)
