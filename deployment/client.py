"""Asks an image-classification server for the classes of images.

    python client.py photo.jpg more/ 'other/*.png' --url http://127.0.0.1:5001

or from Python, `from client import predict`. It needs `requests` and no other file of this
project. Exit status: 0 if all images were answered; 1 if the server failed or was not reached for
some image; else 2, if an image was refused (any status 4xx) or the usage was wrong.
"""

import argparse
import contextlib
import email.utils
import glob
import io
import json
import os
import random
import re
import socket
import sys
import threading
import time
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

URL = "http://127.0.0.1:5001"
TOKEN_VARIABLE = "IMAGE_CLASSIFIER_TOKEN"
# As in data/image_files.py, which is not at hand where this file is copied alone; a test compares
EXTENSIONS = (
    *(".jpg", ".jpeg", ".jfif", ".jpe", ".mpo"),
    *(".png", ".bmp", ".webp", ".gif", ".tif", ".tiff"),
    *(".heic", ".heif", ".hif", ".avif"),
)  # read from a folder
OWN_FILES = (
    ".txt",
    "label.json",
    "splits.csv",
    "groups.csv",
)  # endings of what belongs to data sets
SYSTEM_NAMES = frozenset(
    ("@eadir", ".@__thumb", "__macosx", ".ipynb_checkpoints", "#recycle", "@recycle")
    + ("$recycle.bin", "system volume information", "lost+found", "_unsorted", "_removed")
    + ("thumbs.db", "ehthumbs.db", "desktop.ini", "picasa.ini")
)  # passed over in silence, in lower case
ANSWERED, FAILED, REFUSED = 0, 1, 2  # exit statuses
# Too many requests, a proxy that lost its server, a full queue: worth a retry.
RETRIED_STATUSES = (429, 502, 503)
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0  # seconds before a retry, doubled each time
CONNECT_LIMIT = 5.0  # seconds
MAX_ANSWER = 16 << 20  # bytes
MAX_PARALLEL, MAX_COUNT = 1000, 10**9
# In JSON, what a terminal may take for a command or for another direction of writing
UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def predict(url, images, top_k=None, token=None, parallel=1, time_limit=30, retries=None):
    """Asks for the classes of some images.

    Args:
        url: str, address of the server, such as "http://127.0.0.1:5001".
        images: list of paths or of the bytes of image files.
        top_k: int, predictions per image; None takes the server's default.
        token: str, the token that the server asks for; None sends none.
        parallel: int, number of requests at once, each on a connection of its own that is kept.
        time_limit: float, seconds per image, including retries.
        retries: int, maximum number of retries per image; None allows as many as fit into
            `time_limit`.

    Returns:
        A list of dicts in the order of `images`, as the server answers for each:
        {"success": True, "predictions": [{"label", "id", "probability"}, ...], ...}, or
        {"success": False, "error": {"code", "message"}}, also where a file cannot be read
        ("unreadable") or the server gives no answer ("unreachable", "timeout", "bad_answer", or
        "http_" and the status).

    Raises:
        ValueError: `url` is not an address, or `token` cannot be sent.

    Example:
        >>> [answer] = predict("http://127.0.0.1:5001", ["photo.jpg"], top_k=1)
        >>> answer["predictions"]
        [{'label': 'glass', 'id': 1, 'probability': 0.875}]
    """
    check_address(url)
    check_token(token)
    answers = stream(url, images, top_k, token, parallel, time_limit, retries)
    return [answer for _, answer in answers]


def stream(url, images, top_k=None, token=None, parallel=1, time_limit=30, retries=None):
    """Asks for the classes of many images, and yields each answer as soon as it is there.

    Args:
        url, images, top_k, token, parallel, time_limit, retries: those of `predict`.

    Yields:
        (exit status: 0 answered, 1 the server failed, 2 refused; dict as in the list that
        `predict` returns) in the order of `images`.

    Example:
        >>> paths = ["a.jpg", "b.jpg"]
        >>> for path, (status, answer) in zip(paths, stream("http://127.0.0.1:5001", paths)):
        ...     print(path, answer["predictions"][0]["label"] if status == 0 else "failed")
        a.jpg glass
        b.jpg failed
    """
    predict_url = url.rstrip("/") + "/predict"
    unreachable = threading.Event()  # set while the server cannot be reached at all
    thread_local = threading.local()
    with contextlib.ExitStack() as sessions:

        def ask(image):
            if not hasattr(thread_local, "session"):
                thread_local.session = sessions.enter_context(_new_session(top_k, token))
            return _ask(thread_local.session, predict_url, image, time_limit, retries, unreachable)

        pool = ThreadPoolExecutor(parallel)
        try:
            yield from pool.map(ask, images)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


class _Adapter(HTTPAdapter):
    """Keeps a second hand on the connection, with which another thread can end it.

    The timeouts of `requests` are for single reads: a server that sends a byte now and then would
    never exceed them.
    """

    _hand = None

    def init_poolmanager(self, *given, **named):
        super().init_poolmanager(*given, **named)
        self._watch(self.poolmanager)

    def proxy_manager_for(self, *given, **named):
        manager = super().proxy_manager_for(*given, **named)
        self._watch(manager)
        return manager

    def _watch(self, manager):
        manager.pool_classes_by_scheme = {
            scheme: _watching(pool_class, self._take_hand)
            for scheme, pool_class in manager.pool_classes_by_scheme.items()
        }

    def _take_hand(self, new_socket):
        self.close_hand()  # of the connection before: a session has one at a time
        self._hand = new_socket.dup()

    def end(self):
        """Ends the connection, whatever it waits for."""
        if self._hand is not None:
            with contextlib.suppress(OSError):
                self._hand.shutdown(socket.SHUT_RDWR)

    def close_hand(self):
        if self._hand is not None:
            self._hand.close()
            self._hand = None

    def close(self):
        super().close()
        self.close_hand()


def _watching(pool_class, take_hand):
    """A class of urllib3's pools whose connections show each new socket to `take_hand`."""
    if hasattr(pool_class, "is_watching"):
        return pool_class

    class Connection(pool_class.ConnectionCls):
        def _new_conn(self):
            new_socket = super()._new_conn()
            take_hand(new_socket)
            return new_socket

    return type(
        pool_class.__name__, (pool_class,), {"ConnectionCls": Connection, "is_watching": True}
    )


def _new_session(top_k, token):
    session = requests.Session()
    session.mount("http://", adapter := _Adapter())
    session.mount("https://", adapter)
    session.end = adapter.end
    session.params = {} if top_k is None else {"top_k": top_k}
    if token is not None:
        # requests prefers an entry of ~/.netrc to a plain header.
        session.auth = lambda request: _authorize(request, token)
    return session


def _authorize(request, token):
    request.headers["Authorization"] = f"Bearer {token}"
    return request


def _ask(session, predict_url, image, time_limit, retries, unreachable):
    """(exit status, dict) of one image, after all retries."""
    try:
        image_bytes = _read(image)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return REFUSED, _error("unreadable", f"the file cannot be read: {reason}")
    if not image_bytes:
        return REFUSED, _error("unreadable", "the file is empty")
    if unreachable.is_set():  # the image before has spent its time on retries
        retries = 0
    deadline = time.monotonic() + time_limit
    pause, tries = FIRST_PAUSE, 0
    while True:
        seconds_left = max(deadline - time.monotonic(), 0.01)
        exit_status, answer, wait = _try(session, predict_url, image_bytes, seconds_left)
        if wait is not None:
            # Clients that were turned away together must not come back together.
            wait += pause * random.uniform(0.5, 1)
        if wait is None or tries == retries or time.monotonic() + wait >= deadline:
            break
        time.sleep(wait)
        pause = min(2 * pause, LONGEST_PAUSE)
        tries += 1
    if not answer["success"] and answer["error"]["code"] == "unreachable":
        unreachable.set()
    else:
        unreachable.clear()
    return exit_status, answer


def _read(image):
    if isinstance(image, (bytes, bytearray, memoryview)):
        return bytes(image)
    with open(image, "rb") as image_file:
        return image_file.read()


def _try(session, predict_url, image_bytes, seconds_left):
    """Sends an image once.

    Returns:
        (exit status, dict as `predict` returns it, minimum seconds to wait before a retry, or
        None where a retry is of no use).
    """
    expired = threading.Event()

    def expire():
        expired.set()
        session.end()

    timer = threading.Timer(seconds_left, expire)
    timer.daemon = True
    timer.start()
    try:
        response, content = _send(session, predict_url, image_bytes, seconds_left)
        result = _judge(predict_url, response, content)
    except Exception as error:  # whatever a server sends, it ends no other request
        result = _failure(predict_url, error)
    finally:
        timer.cancel()
    if expired.is_set() and result[0] == FAILED:
        return FAILED, _error("timeout", f"{predict_url}: no answer in time"), None
    return result


def _send(session, predict_url, image_bytes, seconds_left):
    """(response, its whole content)."""
    content = bytearray()
    with session.post(
        predict_url,
        data=io.BytesIO(image_bytes),  # sent in blocks, each with a timeout of its own
        headers={"Content-Type": "application/octet-stream"},
        timeout=(min(CONNECT_LIMIT, seconds_left), seconds_left),
        allow_redirects=False,  # it would become a GET without the image
        stream=True,
    ) as response:
        for piece in response.iter_content(1 << 16):
            content += piece
            if len(content) > MAX_ANSWER:
                raise ValueError(f"the answer has more than {MAX_ANSWER:,} bytes")
    return response, bytes(content)


def _failure(predict_url, error):
    """What `_try` returns for an exception."""
    if isinstance(error, requests.exceptions.SSLError):
        return FAILED, _error("unreachable", f"{predict_url}: {_reason(error)}"), None
    if isinstance(error, requests.exceptions.ReadTimeout):
        return FAILED, _error("timeout", f"{predict_url}: no answer in time"), None
    if isinstance(error, (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        return FAILED, _error("unreachable", f"{predict_url}: {_reason(error)}"), 0.0
    return FAILED, _error("bad_answer", f"{predict_url}: {error}"), None


def _judge(predict_url, response, content):
    """What `_try` returns for a response."""
    http_status = response.status_code
    try:
        answer = json.loads(content, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError):
        answer = None
    if http_status == 200 and _is_prediction(answer):
        return ANSWERED, answer, None
    if http_status == 200:
        message = f"{predict_url}: the answer is not one of an image-classification server"
        return FAILED, _error("bad_answer", message), None
    if not _is_error(answer):  # a proxy answered, or another program
        redirect_url = response.headers.get("Location")
        message = f"{predict_url}: HTTP {http_status} {response.reason}"
        message += f", to {redirect_url}" if redirect_url else ""
        answer = _error(f"http_{http_status}", message)
    is_retried = http_status in RETRIED_STATUSES
    exit_status = REFUSED if 300 <= http_status < 500 and not is_retried else FAILED
    return exit_status, answer, _retry_after(response) if is_retried else None


def _finite(text):
    """A number of JSON; what JSON does not have is no answer."""
    value = float(text)
    if not abs(value) < float("inf"):  # nor NaN
        raise ValueError(text)
    return value


def _is_prediction(answer):
    try:
        return (
            answer["success"] is True
            and isinstance(answer["predictions"], list)
            and all(
                isinstance(prediction["label"], str)
                and isinstance(prediction["probability"], (int, float))
                and -1 < prediction["probability"] < 2  # rounding may exceed 1
                and isinstance(prediction["id"], int)
                and -MAX_COUNT < prediction["id"] < MAX_COUNT
                for prediction in answer["predictions"]
            )
        )
    except (TypeError, KeyError):
        return False


def _is_error(answer):
    try:
        error = answer["error"]
        return answer["success"] is False and all(
            isinstance(error[field_name], str) for field_name in ("code", "message")
        )
    except (TypeError, KeyError):
        return False


def _retry_after(response):
    """Seconds that the server asks to wait, 0 where it does not say."""
    retry_after = response.headers.get("Retry-After", "")
    if retry_after.isdecimal():
        return float(retry_after)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except Exception:  # no date, or one that no clock has
        return 0.0


def _reason(error):
    """The words of the operating system's error that caused one of requests' errors."""
    while error is not None:
        if getattr(error, "strerror", None):
            return error.strerror
        error = error.__cause__ or error.__context__
    return "the connection failed or was lost"


def _error(code, message):
    return {"success": False, "error": {"code": code, "message": message}}


def check_address(url):
    """Checks the address of a server.

    Args:
        url: str.

    Raises:
        ValueError: `url` is not an address such as "http://127.0.0.1:5001".
    """
    try:
        url_parts = urlsplit(url)
        is_address = (
            url_parts.scheme in ("http", "https") and url_parts.hostname and url_parts.port != 0
        )
    except ValueError:  # a port that is not a number
        is_address = False
    if not is_address or url_parts.query or url_parts.fragment:
        raise ValueError(f"--url: {url!r} is not an address such as {URL}")


def check_token(token):
    """Checks that a token can be sent in a header.

    Args:
        token: str, or None.

    Raises:
        ValueError: the token is empty or has other characters than printable ASCII.
    """
    if token is not None and not (token and token.isascii() and token.isprintable()):
        raise ValueError("the token is empty or has characters other than printable ASCII")


def find_token(token, token_path):
    """Finds the token to send.

    Args:
        token: str of the command line, or None.
        token_path: str, a file that holds the token, or None.

    Returns:
        The token of the file, of the command line or of the environment, in this order; None
        where there is none.

    Raises:
        ValueError: the file cannot be read.
    """
    if token_path is None:
        return token or os.environ.get(TOKEN_VARIABLE) or None
    try:
        with open(token_path, encoding="utf-8") as token_file:
            return token_file.read().strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8"
        raise ValueError(f"--token_file: {token_path}: {reason}") from None


def find_images(patterns):
    """Finds image files.

    Args:
        patterns: list of str, each a file, a folder, with those below it, or a pattern such as
            "photos/*.jpg".

    Returns:
        A list of paths in order, each once.

    Raises:
        ValueError: one of `patterns` matches nothing.
    """
    image_paths = {}
    for pattern in patterns:
        if os.path.isdir(pattern):
            matches = _walk_images(pattern)
        elif os.path.exists(pattern):  # also a file with brackets in its name
            matches = [pattern]
        else:
            matches = sorted(glob.glob(pattern, recursive=True))
            matches = [path for path in matches if os.path.isfile(path)]
        if not matches:
            kinds = f" of the kinds {', '.join(EXTENSIONS)}" if os.path.isdir(pattern) else ""
            raise ValueError(f"{pattern}: no such image{kinds}")
        image_paths.update(dict.fromkeys(matches))
    return list(image_paths)


def _walk_images(folder):
    """The images in a folder and in those below it; counts on standard error what is left out."""
    image_paths, left_out_count = [], 0

    def refuse(error):
        raise error

    for parent, subfolders, file_names in os.walk(folder, onerror=refuse):
        subfolders[:] = sorted(name for name in subfolders if not _is_system_name(name))
        for file_name in file_names:
            if file_name.lower().endswith(EXTENSIONS) and not _is_system_name(file_name):
                image_paths.append(os.path.join(parent, file_name))
            elif not (_is_system_name(file_name) or file_name.endswith(OWN_FILES)):
                left_out_count += 1
    if left_out_count:
        files = "files" if left_out_count > 1 else "file"
        print(f"{folder}: {left_out_count:,} other {files} left out", file=sys.stderr)
    return sorted(image_paths)


def _is_system_name(name):
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def _text(image_path, answer):
    """The lines that `--mode predict` prints for an image."""
    if not answer["success"]:
        return _printable(f"{image_path}: {answer['error']['message']}")
    labels = [_printable(prediction["label"]) for prediction in answer["predictions"]]
    label_width = max(map(len, labels), default=0)
    text_lines = [_printable(image_path)]
    if answer.get("unknown"):
        reason = _printable(answer.get("reason", ""))
        text_lines.append(f"  unknown: {reason}" if reason else "  unknown")
    for prediction, label in zip(answer["predictions"], labels):
        text_lines.append(
            f"  {prediction['probability']:7.2%}  {label:<{label_width}}  "
            f"(class {prediction['id']})"
        )
    return "\n".join(text_lines)


def _printable(text):
    """A text without what a terminal would obey: control characters are shown by number."""
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        else character
        for character in str(text)
    )


def _parse(words):
    parser = argparse.ArgumentParser(
        "client.py",
        allow_abbrev=False,
        description="Asks an image-classification server for the classes of images.",
    )
    parser.error = lambda message: parser.exit(REFUSED, f"client.py: {message}\n")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="file, folder or pattern")
    parser.add_argument("--url", default=URL, help="address of the server [default: %(default)s]")
    token_group = parser.add_mutually_exclusive_group()
    token_group.add_argument(
        "--token",
        help="the server's token; other users of this machine can see "
        f"it here, but not in the environment variable {TOKEN_VARIABLE}",
    )
    token_group.add_argument("--token_file", metavar="FILE", help="file that holds the token")
    parser.add_argument(
        "--top_k",
        type=_whole_number(1, MAX_COUNT),
        metavar="N",
        help="predictions per image [default: the server's]",
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument(
        "--parallel",
        type=_whole_number(1, MAX_PARALLEL),
        default=1,
        metavar="N",
        help="number of requests at once [default: 1]",
    )
    parser.add_argument(
        "--time_limit",
        type=_seconds,
        default=30.0,
        metavar="S",
        help="seconds per image, including retries [default: 30]",
    )
    parser.add_argument(
        "--retries",
        type=_whole_number(0, MAX_COUNT),
        metavar="N",
        help="maximum number of retries per image [default: as many as fit into --time_limit]",
    )
    return parser.parse_args(words)


def _whole_number(minimum, maximum):
    def parse(text):
        is_number = text.isdecimal() and len(text) <= len(str(maximum))
        if not (is_number and minimum <= int(text) <= maximum):
            raise argparse.ArgumentTypeError(
                f"{text[:100]!r} is not a whole number from {minimum} to {maximum}"
            )
        return int(text)

    return parse


def _seconds(text):
    with contextlib.suppress(ValueError):
        if 0 < float(text) <= 86400:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text[:100]!r} is not a number above 0 and up to 86400")


def main(words=None):
    """Runs the command.

    Args:
        words: list of str, the command line; None takes that of the process.

    Returns:
        The exit status.
    """
    options = _parse(words)
    try:
        check_address(options.url)
        token = find_token(options.token, options.token_file)
        check_token(token)
        image_paths = find_images(options.images)
    except (ValueError, OSError) as error:
        return _say(error, REFUSED)
    if hasattr(sys.stdout, "reconfigure"):  # file names need not be UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    results, failures = [], []
    answers = stream(
        options.url,
        image_paths,
        options.top_k,
        token,
        options.parallel,
        options.time_limit,
        options.retries,
    )
    for image_path, (exit_status, answer) in zip(image_paths, answers):
        results.append({"image": image_path, **answer})
        if exit_status != ANSWERED:
            failures.append((exit_status, f"{image_path}: {answer['error']['message']}"))
        if not options.json:
            print(_text(image_path, answer), flush=True)
    if options.json:
        is_utf8 = (sys.stdout.encoding or "utf-8").lower() in ("utf-8", "utf8")
        json_text = json.dumps(results, ensure_ascii=not is_utf8)  # as Windows' code page allows
        print(UNSAFE_IN_JSON.sub(lambda unsafe: f"\\u{ord(unsafe[0]):04x}", json_text))
    return _say_failure(failures, len(image_paths)) if failures else ANSWERED


def _say_failure(failures, image_count):
    """Prints the gravest of `failures`, (exit status, message) each; returns its exit status."""
    # That the server failed matters more than a refused image.
    exit_status, message = min(failures, key=lambda failure: failure[0])
    if len(failures) > 1:
        message += f"; {len(failures)} of {image_count} images failed"
    return _say(message, exit_status)


def _say(message, exit_status):
    print("client.py:", _printable(" ".join(str(message).split())), file=sys.stderr)
    return exit_status


if __name__ == "__main__":
    try:
        exit_status = main()
    except KeyboardInterrupt:
        exit_status = _say("interrupted", 130)
    except BrokenPipeError:  # the reader, `head` for instance, has gone
        exit_status = FAILED
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    os._exit(exit_status)  # not waiting for requests that are under way
