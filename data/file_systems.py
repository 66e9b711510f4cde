"""fsspec's file systems of object stores and web servers, made so that each asks only once.

The repeated tries of the libraries below know no Retry-After, take up to seven minutes with
tracebacks on the terminal, and would multiply with those of `data.object_stores`.
"""

import contextlib
import logging
import types

from common.errors import InputError

PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs", "http": "aiohttp", "https": "aiohttp"}
CONNECT_SECONDS, SILENCE_SECONDS = 10, 20  # without any answer
CONNECTIONS = 64


def make_file_system(scheme):
    """Makes the file system of a scheme, with the environment's credentials.

    Args:
        scheme: str, a key of `PACKAGES`.

    Returns:
        file system of fsspec.

    Raises:
        InputError: its package is not installed.

    Example:

    ```python
    make_file_system("s3").size("bucket/photos/index.npy")
    ```
    """
    try:
        import fsspec

        file_system = fsspec.get_filesystem_class(scheme)
        if scheme == "gs":
            # Its subclass of today asks for the kind of a bucket first, with tries of its own.
            from gcsfs.core import GCSFileSystem as file_system
        store = file_system(skip_instance_cache=True, use_listings_cache=False, **_settings(scheme))
    except ImportError as error:
        raise InputError(
            f"{scheme}://: {PACKAGES[scheme]} is not installed ({error}): {_how_to_install(scheme)}"
        ) from None
    if scheme == "s3":
        store.retries = 1
        store.connect()  # else each of the first requests makes a client, 0.3 s of computing
    elif scheme == "gs":
        ask_google_once(store)
    elif scheme == "az":
        ask_azure_once(store)
    return store


def _how_to_install(scheme):
    package = PACKAGES[scheme]
    if package not in ("gcsfs", "adlfs"):
        return "bash sh/setup.sh remote installs what is needed"
    version = ""
    with contextlib.suppress(ImportError):
        import fsspec

        version = f"=={fsspec.__version__}" if package == "gcsfs" else ""  # fsspec's own version
    return f"python -m pip install {package}{version}"


def _settings(scheme):
    if scheme == "s3":
        return {
            "config_kwargs": {
                "retries": {"total_max_attempts": 1},
                "connect_timeout": CONNECT_SECONDS,
                "read_timeout": SILENCE_SECONDS,
                "max_pool_connections": CONNECTIONS,
            }
        }
    if scheme == "az":
        return {"connection_timeout": CONNECT_SECONDS, "read_timeout": SILENCE_SECONDS}
    import aiohttp

    timeout = aiohttp.ClientTimeout(
        total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS
    )
    if scheme == "gs":
        return {"requests_timeout": timeout}
    return {"client_kwargs": {"timeout": timeout, "trust_env": True}}  # proxies, ~/.netrc


def ask_google_once(store):
    """Takes the repeated tries away from gcsfs, and its tracebacks from the terminal.

    Args:
        store: `gcsfs.GCSFileSystem`.
    """
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # what fails is told by who asked
    ask_once = getattr(type(store)._request, "__wrapped__", None)  # below `retry_request`
    if ask_once:
        store._request = types.MethodType(ask_once, store)


def ask_azure_once(store):
    """Takes the repeated tries away from Azure's client.

    Args:
        store: `adlfs.AzureBlobFileSystem`, which gives no other way to it.
    """
    pipeline = getattr(store.service_client, "_pipeline", None)
    for policy in getattr(pipeline, "_impl_policies", ()):
        if hasattr(policy, "total_retries"):
            policy.total_retries = 0
