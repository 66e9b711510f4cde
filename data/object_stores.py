"""Requests to object stores and web servers: each is tried again where that may help.

fsspec speaks the stores' languages: `s3://` by s3fs, `gs://` by gcsfs, `az://` by adlfs, `http://`
and `https://` by aiohttp (`data.file_systems`). What a store answers becomes one line for a person.
Nothing is imported before the first request.
"""

import contextlib
import itertools
import os
import random
import re
import threading
import time
from typing import NamedTuple

from common.console import say
from common.errors import InputError, PlainError, RunError
from data.file_systems import PACKAGES, make_file_system

# The pauses double from the first to the longest: ten tries bear 40 to 60 s of an outage.
TRIES, FIRST_PAUSE, LONGEST_PAUSE = 10, 0.1, 20.0
START_TRIES = 5  # of what begins a command: a wrong address is told within seconds
BROKEN_TRIES = 6  # of a read whose bytes are not those that were written
MOST_RETRY_AFTER = 60.0  # seconds that a store may ask for
SAYS_AFTER = 5  # tries that fail before a person hears of it
# What stores call credentials that were right and are not any more
EXPIRED = frozenset(
    ("ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired")
    + ("ExpiredAuthenticationToken",)
)
FORBIDDEN = "Forbidden: "  # what gcsfs begins an OSError with that has no status
NO_ACCOUNT = "unable to connect to account"  # of adlfs, in a ValueError
WITHOUT_CREDENTIALS = re.compile(
    r"Credentials|Profile|SSO|Token(Retrieval|Load)|Auth(entication|orization)|RefreshError"
)
# Exceptions without a status that are no OSError: connections that broke, and answers that ended
BROKEN_CONNECTIONS = frozenset(
    ("HTTPClientError", "IncompleteReadError", "IncompleteRead", "ClientPayloadError")
    + ("ResponseParserError", "ServerDisconnectedError", "ServiceRequestError")
    + ("ServiceResponseError", "TransportError", "HTTPException")
)
# Of libraries that compare what came with a checksum of the store's
BROKEN_CHECKSUMS = frozenset(("ChecksumError", "FlexibleChecksumError", "DataCorruption"))
# What says who one is: where, and what it has to allow
CREDENTIALS = {
    "s3": "AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, say who reads; "
    "FSSPEC_S3_ANON=true is for public buckets, AWS_ENDPOINT_URL for other stores than Amazon's",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS says who reads",
    "az": "AZURE_STORAGE_ACCOUNT_NAME says whose store it is, AZURE_STORAGE_ACCOUNT_KEY or "
    "AZURE_STORAGE_CONNECTION_STRING who reads",
    "http": "the server decides who may read: https://USER:PASSWORD@HOST/... or ~/.netrc",
}

_lock = threading.Lock()
_file_systems = {}  # scheme -> fsspec's file system
_jitter = random.Random()  # of its own: the global one belongs to trainings
_said_at = [-60.0]  # when a person was told last that a store does not answer


class BrokenReadError(RunError):
    """Other bytes than were asked for, or too few; reading them again may help."""


class NoRangesError(Exception):
    """A web server that sends the whole file where a part of it was asked for."""


class Fault(NamedTuple):
    """What a failed request says.

    Attributes:
        kind: "missing", "forbidden", "credentials", "expired", "end", "permanent", "broken" or
            "passing"; the last two and "expired" may go by.
        reason: str, for a person.
        retry_after: float, seconds that the store asks to wait, or 0.
    """

    kind: str
    reason: str
    retry_after: float = 0.0


def scheme_of(address):
    """str, what an address begins with: "s3", "gs", "az", "http" or "https"; else "".

    Args:
        address: str, an address or a path.
    """
    scheme, separator, _ = address.partition("://")
    return scheme if separator and scheme in PACKAGES else ""


def is_remote(path):
    """Whether a place or a photo lies in an object store or on a web server.

    Args:
        path: str, an address or a path.

    Returns:
        bool.

    Example:
        >>> is_remote("s3://bucket/photos"), is_remote("photos")
        (True, False)
    """
    return bool(scheme_of(path))


def shown(address):
    """str, an address as messages show it: without a password.

    Args:
        address: str.
    """
    return re.sub("//[^/@]*@", "//", address)


def request(address, operation, where="", tries=TRIES):
    """Does something with the file system of an address, again and again where that may help.

    Args:
        address: str.
        operation: function (file system of fsspec) -> anything; `BrokenReadError` of it is tried
            again, too.
        where: str, what errors name, without a password; "" for the address.
        tries: int, how often at most.

    Returns:
        What `operation` returns.

    Raises:
        InputError: the store refuses, or does not have it.
        BrokenReadError: the last of the tries brought other bytes than were asked for.
        RunError: it did not answer as often as it was asked.

    Example:

    ```python
    size = request("s3://bucket/photos/index.npy", lambda store: store.size("bucket/..."))
    ```
    """
    where, scheme, broken_reads = where or shown(address), scheme_of(address), 0
    for attempt in itertools.count(1):
        store = None
        try:
            store = _file_system(scheme)
            return operation(store)
        except Exception as error:
            if isinstance(error, PlainError) and not isinstance(error, BrokenReadError):
                raise
            fault = explain(error)
        broken_reads += fault.kind == "broken"
        if fault.kind not in ("broken", "passing", "expired"):
            raise InputError(f"{where}: {_advice(fault, scheme)}")
        if attempt >= tries or broken_reads >= BROKEN_TRIES:
            final_error = BrokenReadError if fault.kind == "broken" else RunError
            raise final_error(f"{where}: {_advice(fault, scheme)} (tried {attempt} times)")
        if fault.kind == "expired":
            _forget(scheme, store)
        _pause(where, fault, attempt)


def _advice(fault, scheme):
    """The rest of an error's line: what is wrong, what is allowed, what to do."""
    credentials = CREDENTIALS["http" if scheme == "https" else scheme]
    match fault.kind:
        case "missing":
            return "does not exist there; look at the address, and whether the place is complete"
        case "forbidden":
            return f"access is denied ({fault.reason}); reading has to be allowed; {credentials}"
        case "credentials":
            return f"no valid credentials ({fault.reason}); {credentials}"
        case "expired":
            return f"the credentials have expired ({fault.reason}); renew them; {credentials}"
        case "end":
            return "the file ends before that; it is truncated, or another one than the index's"
        case "broken":
            return f"{fault.reason}; the file in the store is damaged, or another than was packed"
        case "passing":
            return f"no right answer now ({fault.reason}); look at the network, then run it again"
    return fault.reason


def _pause(where, fault, attempt):
    seconds = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (attempt - 1)) * _jitter.uniform(0.5, 1)
    seconds = max(seconds, fault.retry_after)
    if attempt >= SAYS_AFTER:
        with _lock:
            is_news = time.monotonic() - _said_at[0] > LONGEST_PAUSE
            if is_news:
                _said_at[0] = time.monotonic()
        if is_news:
            say(f"{where}: tried {attempt} times ({fault.reason}); trying again")
    time.sleep(seconds)


# What failed


def explain(error):
    """What an exception of fsspec, or of a library below it, says.

    Args:
        error: exception; those that caused it are looked at, too.

    Returns:
        `Fault`.

    Example:
        >>> explain(FileNotFoundError("bucket/photos-00003.tar")).kind
        'missing'
    """
    chain = list(_causes(error))
    status, code, headers = _answer(chain)
    names = {kind.__name__ for kind in type(error).__mro__}
    reason = _reason(error, status, code)
    if isinstance(error, BrokenReadError):
        return Fault("broken", str(error))
    if names & BROKEN_CHECKSUMS:
        return Fault("broken", reason)
    if isinstance(error, NoRangesError):
        return Fault("permanent", str(error))
    if names & BROKEN_CONNECTIONS:  # whatever status the answer began with
        return Fault("passing", reason)
    # S3 answers to HEAD have no code: 400 is what expired credentials get there.
    if code in EXPIRED or (status == 400 and code == "400"):
        return Fault("expired", reason)
    if status == 401 and "ClientResponseError" not in names:
        return Fault("expired", reason)  # a web server's 401 asks for a password
    if status == 404 or (not status and isinstance(error, FileNotFoundError)):
        return Fault("missing", reason)
    is_denied = isinstance(error, PermissionError) or reason.startswith(FORBIDDEN)
    if status in (401, 403) or (not status and is_denied):
        return Fault("forbidden", reason)
    if status == 416:
        return Fault("end", reason)
    if status >= 500 or status in (408, 425, 429) or code in ("SlowDown", "RequestTimeout"):
        return Fault("passing", reason, _retry_after(headers))
    is_unknown = any(WITHOUT_CREDENTIALS.search(type(cause).__name__) for cause in chain)
    if not status and (is_unknown or NO_ACCOUNT in reason):
        return Fault("credentials", reason)
    if not status and isinstance(error, (OSError, EOFError)):
        return Fault("passing", reason)
    return Fault("permanent", reason)


def _causes(error):
    for _ in range(8):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def _answer(chain):
    """(status, code, headers) of the store's answer; 0, "" and {} where there is none."""
    for cause in chain:
        response = getattr(cause, "response", None)
        if isinstance(response, dict):  # of botocore
            metadata = response.get("ResponseMetadata", {})
            code = str(response.get("Error", {}).get("Code", ""))
            return metadata.get("HTTPStatusCode", 0), code, metadata.get("HTTPHeaders", {})
        for name in ("status", "status_code", "code"):  # of aiohttp, of Azure, of gcsfs
            with contextlib.suppress(TypeError, ValueError):
                status = int(getattr(cause, name, 0) or 0)
                if 300 <= status < 600:
                    code = str(getattr(cause, "error_code", None) or "")
                    return status, code, getattr(cause, "headers", None) or {}
    return 0, "", {}


def _reason(error, status, code):
    """What a person reads of a store's answer or of a connection: status, code, some words."""
    words = " ".join(f"{error}".split())[:200]
    facts = " ".join(filter(None, (str(status or ""), code if not code.isdigit() else "")))
    if facts:
        return facts
    return words or type(error).__name__


def _retry_after(headers):
    named = {str(name).lower(): value for name, value in dict(headers).items()}
    try:
        return min(MOST_RETRY_AFTER, max(0.0, float(named.get("retry-after", 0))))
    except ValueError:  # a date: the pauses do without it
        return 0.0


# File systems


def _file_system(scheme):
    with _lock:
        if scheme not in _file_systems:
            _file_systems[scheme] = make_file_system(scheme)
        return _file_systems[scheme]


def _forget(scheme, store):
    """Makes the file system anew with the next request: so changed credentials are read."""
    with _lock:
        if _file_systems.get(scheme) is store:
            _file_systems.pop(scheme, None)


def forget_all():
    """Forgets all file systems; the next request makes them with the environment as it is then."""
    with _lock:
        _file_systems.clear()


def is_web(address):
    """bool, whether an address is that of a web server, which has no list of its files.

    Args:
        address: str.
    """
    return scheme_of(address) in ("http", "https")


def get_range(store, address, start, end):
    """One GET request for a part of a file.

    Args:
        store: file system of fsspec.
        address: str.
        start, end: int, the first byte and the one after the last.

    Returns:
        bytes; fewer where the file ends before.

    Raises:
        NoRangesError: a web server that would send the whole file.
    """
    if not is_web(address):
        return store.cat_file(address, start=start, end=end)
    from fsspec.asyn import sync

    # Not `cat_file`, which would take 256 MB from a server that knows no ranges.
    return sync(store.loop, _get_web_range, store, address, start, end)


async def _get_web_range(store, address, start, end):
    session = await store.set_session()
    settings = dict(store.kwargs)
    part = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
    headers = {**settings.pop("headers", {}), **part}
    async with session.get(store.encode_url(address), headers=headers, **settings) as response:
        response.raise_for_status()
        if response.status != 206:
            raise NoRangesError(
                f"the server answers {response.status} with the whole file where a part of it is "
                "asked for (Range); allowed are servers that send parts, as nginx, Apache and "
                "object stores do, and python -m http.server does not"
            )
        return await response.read()


def file_version(store, address):
    """(size, version) of a file in a store.

    Args:
        store: file system of fsspec.
        address: str.

    Returns:
        (int or None where the server does not say, str that changes with the file's content).
    """
    facts = store.info(address)
    named = {name.lower(): value for name, value in facts.items()}
    version = next(
        (str(named[name]) for name in ("etag", "content-md5", "last-modified") if named.get(name)),
        "",
    )
    return facts.get("size"), version


def base_name(address):
    """str, the last part of an address.

    Args:
        address: str.
    """
    return os.path.basename(address.rstrip("/"))
