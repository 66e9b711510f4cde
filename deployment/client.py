"""Asks an image-classification server for the classes of images.

    python client.py photo.jpg more/ 'other/*.png' --url http://127.0.0.1:5001

or from Python, `from client import predict`. It needs `requests` and no other file of this
project. Exit status: 0 all answered, 1 the server failed or was not reached for some image,
otherwise 2 where an image was refused (any status 4xx) or the usage was wrong.
"""

import argparse
import contextlib
import email.utils
import glob
import io
import json
import os
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import requests

URL = "http://127.0.0.1:5001"
TOKEN_VARIABLE = "IMAGE_CLASSIFIER_TOKEN"
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff")  # of a folder
ANSWERED, FAILED, REFUSED = 0, 1, 2  # exit statuses
# Too many requests, a proxy that lost its server, a full queue: worth another try.
PASSING = (429, 502, 503)
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0  # seconds before another try, doubled each time
CONNECT_LIMIT = 5.0  # seconds


def predict(url, images, top_k=None, token=None, parallel=1, time_limit=30, retries=None):
    """Asks for the classes of some images.

    Args:
        url: address of the server, such as "http://127.0.0.1:5001".
        images: list of paths or of files' bytes.
        top_k: predictions an image; default: the server's.
        token: what the server's --token_file holds; default: none is sent.
        parallel: requests at once, each on a connection that is kept.
        time_limit: seconds for an image, tries again included.
        retries: further tries for an image, at most; default: as many as fit into time_limit.

    Returns:
        A list of dicts in the order of `images`, as the server answers for each:
        {"success": True, "predictions": [{"label", "id", "probability"}, ...], ...}, or
        {"success": False, "error": {"code", "message"}}, also where a file cannot be read
        ("unreadable") or the server gives no answer ("unreachable", "timeout", "bad_answer", or
        "http_" and the status).

    Raises:
        ValueError: `url` is no address, or `token` cannot be sent.
    """
    check_address(url)
    check_token(token)
    answers = stream(url, images, top_k, token, parallel, time_limit, retries)
    return [answer for _, answer in answers]


def stream(url, images, top_k, token, parallel, time_limit, retries):
    """Yields (exit status, dict as of `predict`) for each image in order, when it is known."""
    address = url.rstrip("/") + "/predict"
    lost = threading.Event()  # set while the server is not reached at all
    local = threading.local()
    with contextlib.ExitStack() as sessions:

        def ask(image):
            if not hasattr(local, "session"):
                local.session = sessions.enter_context(requests.Session())
                local.session.params = {} if top_k is None else {"top_k": top_k}
                if token is not None:
                    # As a header it would give way to a line of ~/.netrc.
                    local.session.auth = lambda request: _authorize(request, token)
            return _ask(local.session, address, image, time_limit, retries, lost)

        pool = ThreadPoolExecutor(parallel)
        try:
            yield from pool.map(ask, images)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _authorize(request, token):
    request.headers["Authorization"] = f"Bearer {token}"
    return request


def _ask(session, address, image, time_limit, retries, lost):
    """(exit status, dict) of one image, after as many tries as it takes."""
    try:
        data = _read(image)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return REFUSED, _error("unreadable", f"the file cannot be read: {reason}")
    if not data:
        return REFUSED, _error("unreadable", "the file is empty")
    if lost.is_set():  # the image before has spent its time on this
        retries = 0
    deadline = time.monotonic() + time_limit
    pause, tries = FIRST_PAUSE, 0
    while True:
        remaining = max(deadline - time.monotonic(), 0.01)
        status, answer, wait = _try(session, address, data, remaining)
        if wait is not None:
            # Clients that were sent away together do not come back together.
            wait += pause * random.uniform(0.5, 1)
        if wait is None or tries == retries or time.monotonic() + wait >= deadline:
            break
        time.sleep(wait)
        pause = min(2 * pause, LONGEST_PAUSE)
        tries += 1
    if not answer["success"] and answer["error"]["code"] == "unreachable":
        lost.set()
    else:
        lost.clear()
    return status, answer


def _read(image):
    if isinstance(image, (bytes, bytearray, memoryview)):
        return bytes(image)
    with open(image, "rb") as file:
        return file.read()


def _try(session, address, data, remaining):
    """Sends an image once.

    Returns:
        (exit status, dict as of `predict`, seconds to wait at least before another try, or None
        where another would be of no use).
    """
    try:
        response = session.post(
            address,
            data=io.BytesIO(data),  # sent in blocks, each with its own time
            headers={"Content-Type": "application/octet-stream"},
            timeout=(min(CONNECT_LIMIT, remaining), remaining),
            allow_redirects=False,  # it would become a GET without the image
        )
    except requests.exceptions.SSLError as error:
        return FAILED, _error("unreachable", f"{address}: {_reason(error)}"), None
    except requests.exceptions.ReadTimeout:
        return FAILED, _error("timeout", f"{address}: no answer in time"), None
    except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
        return FAILED, _error("unreachable", f"{address}: {_reason(error)}"), 0.0
    except requests.RequestException as error:
        return FAILED, _error("bad_answer", f"{address}: {error}"), None
    return _judge(address, response)


def _judge(address, response):
    """As `_try` returns, of a response."""
    code = response.status_code
    try:
        answer = response.json()
    except (ValueError, RecursionError):
        answer = None
    if code == 200 and _is_prediction(answer):
        return ANSWERED, answer, None
    if code == 200:
        message = f"{address}: answers, but not as an image-classification server does"
        return FAILED, _error("bad_answer", message), None
    if not _is_error(answer):  # of a proxy, or of another program
        target = response.headers.get("Location")
        message = f"{address}: HTTP {code} {response.reason}"
        answer = _error(f"http_{code}", message + (f", to {target}" if target else ""))
    status = REFUSED if 300 <= code < 500 and code not in PASSING else FAILED
    return status, answer, _retry_after(response) if code in PASSING else None


def _is_prediction(answer):
    try:
        return (
            answer["success"] is True
            and isinstance(answer["predictions"], list)
            and all(
                isinstance(each["label"], str)
                and isinstance(each["probability"], (int, float))
                and isinstance(each["id"], int)
                for each in answer["predictions"]
            )
        )
    except (TypeError, KeyError):
        return False


def _is_error(answer):
    try:
        error = answer["error"]
        return answer["success"] is False and all(
            isinstance(error[name], str) for name in ("code", "message")
        )
    except (TypeError, KeyError):
        return False


def _retry_after(response):
    """Seconds that the server asks to wait, 0 where it does not say."""
    value = response.headers.get("Retry-After", "")
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0


def _reason(error):
    """In words, what stands at the root of one of requests' errors."""
    while error is not None:
        if getattr(error, "strerror", None):
            return error.strerror
        error = error.__cause__ or error.__context__
    return "the connection was lost or not made in time"


def _error(code, message):
    return {"success": False, "error": {"code": code, "message": message}}


def check_address(url):
    """Refuses with ValueError what is not the address of a server."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number
        good = False
    if not good or parts.query or parts.fragment:
        raise ValueError(f"--url: {url!r} is not an address such as {URL}")


def check_token(token):
    """Refuses with ValueError a token that cannot stand in a header."""
    if token is not None and not (token and token.isascii() and token.isprintable()):
        raise ValueError("the token is empty or has characters besides printable ASCII")


def find_token(token, file):
    """The token of the command line, of a file or of the environment; None where there is none."""
    if file is None:
        return token or os.environ.get(TOKEN_VARIABLE) or None
    try:
        with open(file, encoding="utf-8") as text:
            return text.read().strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8"
        raise ValueError(f"--token_file: {file}: {reason}") from None


def find_images(patterns):
    """The image files that paths, folders and patterns name, each once, in order.

    Raises:
        ValueError: one of them names nothing.
    """
    found = {}
    for pattern in patterns:
        if os.path.isdir(pattern):
            names = [
                os.path.join(pattern, name)
                for name in sorted(os.listdir(pattern))
                if name.lower().endswith(EXTENSIONS) and not name.startswith(".")
            ]
        elif os.path.exists(pattern):  # also a file with brackets in its name
            names = [pattern]
        else:
            names = sorted(glob.glob(pattern, recursive=True))
            names = [name for name in names if os.path.isfile(name)]
        if not names:
            kinds = f" of the kinds {', '.join(EXTENSIONS)}" if os.path.isdir(pattern) else ""
            raise ValueError(f"{pattern}: no such image{kinds}")
        found.update(dict.fromkeys(names))
    return list(found)


def _text(image, answer):
    """What `--mode predict` prints of an image."""
    if not answer["success"]:
        return f"{image}: {answer['error']['message']}"
    unknown = ["  unknown"] if answer.get("unknown") else []
    width = max((len(each["label"]) for each in answer["predictions"]), default=0)
    return "\n".join(
        [
            image,
            *unknown,
            *(
                f"  {each['probability']:7.2%}  {each['label']:<{width}}  (class {each['id']})"
                for each in answer["predictions"]
            ),
        ]
    )


def _parse(words):
    parser = argparse.ArgumentParser(
        "client.py",
        allow_abbrev=False,
        description=("Asks an image-classification server for the classes of images."),
    )
    parser.error = lambda message: parser.exit(REFUSED, f"client.py: {message}\n")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="file, folder or pattern")
    parser.add_argument("--url", default=URL, help="address of the server [default: %(default)s]")
    secret = parser.add_mutually_exclusive_group()
    secret.add_argument(
        "--token",
        help="the server's token; other users of this machine can see "
        f"it here, but not in the environment variable {TOKEN_VARIABLE}",
    )
    secret.add_argument("--token_file", metavar="FILE", help="file that holds the token")
    parser.add_argument(
        "--top_k", type=_whole(1), metavar="N", help="predictions an image [default: the server's]"
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument(
        "--parallel", type=_whole(1), default=1, metavar="N", help="requests at once [default: 1]"
    )
    parser.add_argument(
        "--time_limit",
        type=_seconds,
        default=30.0,
        metavar="S",
        help="seconds for an image, tries again included [default: 30]",
    )
    parser.add_argument(
        "--retries",
        type=_whole(0),
        metavar="N",
        help="further tries for an image, at most [default: as many as its time allows]",
    )
    return parser.parse_args(words)


def _whole(least):
    def parse(text):
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least}")
        return int(text)

    return parse


def _seconds(text):
    with contextlib.suppress(ValueError):
        if 0 < float(text) <= 86400:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 to 86400")


def main(words=None):
    """Runs the command. Returns its exit status."""
    options = _parse(words)
    try:
        check_address(options.url)
        token = find_token(options.token, options.token_file)
        check_token(token)
        images = find_images(options.images)
    except (ValueError, OSError) as error:
        return _say(error, REFUSED)
    if hasattr(sys.stdout, "reconfigure"):  # file names need not be UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    results, failed = [], []
    answers = stream(
        options.url,
        images,
        options.top_k,
        token,
        options.parallel,
        options.time_limit,
        options.retries,
    )
    for image, (status, answer) in zip(images, answers):
        results.append({"image": image, **answer})
        if status != ANSWERED:
            failed.append((status, f"{image}: {answer['error']['message']}"))
        if not options.json:
            print(_text(image, answer), flush=True)
    if options.json:
        print(json.dumps(results, ensure_ascii=False))
    if not failed:
        return ANSWERED
    # That the server failed matters more than a refused image.
    status, message = min(failed, key=lambda each: each[0])
    more = f"; {len(failed)} of {len(images)} images failed" if len(failed) > 1 else ""
    return _say(f"{message}{more}", status)


def _say(message, status):
    print("client.py:", " ".join(str(message).split()), file=sys.stderr)
    return status


if __name__ == "__main__":
    try:
        code = main()
    except KeyboardInterrupt:
        code = _say("interrupted", 130)
    except BrokenPipeError:  # the reader, `head` for instance, has gone
        code = FAILED
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    os._exit(code)  # not waiting for requests that are under way
