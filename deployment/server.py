"""`--mode serve`: answers requests over HTTP with an exported model or a run.

python deployment/server.py --model RUN_OR_FOLDER [options]
"""

import contextlib
import functools
import ipaddress
import json
import os
import signal
import sys
import threading
import time

if __name__ == "__main__":
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from common.console import tolerate_closed_output
from common.errors import InputError
from common.listening import listen, listening_url
from common.memory import give_back_memory, keep_little_memory, usable_memory
from common.web_origins import LOOPBACK_NAMES
from config.mode_options import ServeOptions
from runs import run_folder

MIN_TOKEN = 16  # characters
SHUTDOWN = 30  # seconds in which requests under way are finished
LOADER_SECONDS = 2  # in which the first model may still be loaded
TIDY_SECONDS = 5
# Of the memory that the process may use, requests get a fraction, but no more than they need by
# default: an image of 25 megapixels in the format that takes most, and bodies that wait.
MEMORY_FRACTION, MEMORY, BODY_FRACTION = 1 / 3, 600e6, 1 / 4
ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT)
RELOADING_SIGNALS = (signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()  # Windows has none
HAS_PROCESSES = hasattr(os, "fork") and hasattr(os, "sched_setaffinity")  # that is: Linux


def main(options: ServeOptions):
    """Runs `--mode serve`.

    Args:
        options: options of the mode.
    """
    for signal_number in RELOADING_SIGNALS:
        signal.signal(signal_number, signal.SIG_IGN)  # until there is a model to load again
    if options.workers > 1 and not HAS_PROCESSES:
        raise InputError(
            f"--workers: {options.workers} processes need Linux; this system allows 1, which "
            "computes on all cores"
        )
    token = read_token(options.token_file) if options.token_file else None
    check_host(options)
    model_path = run_folder.find(options.model, options.save_dir, "--model")
    with contextlib.ExitStack() as opened:
        listeners = [opened.enter_context(listen(options.host, options.port))]
        if options.probe_port is not None:
            probe_listener = listen(options.host, options.probe_port, "--probe_port")
            listeners.append(opened.enter_context(probe_listener))
        urls = [listening_url(listener) for listener in listeners]
        announce = functools.partial(print_ready_line, options, urls)
        work = functools.partial(serve, options, model_path, token, listeners)
        if options.workers == 1:
            work(announce)
        else:
            from deployment.workers import Supervisor

            Supervisor(options.workers, listeners, work, announce).run()


def print_ready_line(options, urls, about):
    """Tells that requests are answered, in a line for people or, with `--json`, for programs.

    Args:
        options: options of the mode.
        urls: list of str, where the server listens and, with `--probe_port`, where for probes.
        about: dict of the model's name, runtime and precision.
    """
    if options.json:
        ready = {"ready": True, "url": urls[0], **about, "pid": os.getpid()}
        line = json.dumps({**ready, **({"probe_url": urls[1]} if urls[1:] else {})})
    else:
        computing = " in ".join(filter(None, (about["runtime"], about["precision"])))
        line = f"serving {about['model']} with {computing} on {urls[0]} (press Ctrl-C to stop)"
    with contextlib.suppress(OSError):  # nobody can read it: no reason not to serve
        print(line, flush=True)


def serve(options, model_path, token, listeners, announce):
    """Serves in this process until SIGTERM or SIGINT; SIGHUP loads the model again.

    Windows has no SIGHUP: the server is started again for another model.

    Args:
        options: options of the mode.
        model_path: str, a run or an exported model.
        token: bytes that requests have to bring, or None.
        listeners: list of sockets that listen: for requests and, where wanted, for probes.
        announce: function called when the first model is ready, with a dict of its name, runtime
            and precision.

    Raises:
        InputError: the first model cannot be loaded.
    """
    # Imported here, so that a wrong option is refused without waiting for them.
    from data.decoding_budget import DecodingBudget
    from deployment import http_server, metrics
    from deployment.application import create_application, route_of
    from deployment.log import LossyStream
    from deployment.model_loader import ModelLoader
    from deployment.prediction_service import State

    sys.stderr = LossyStream(sys.stderr)
    state, server_metrics = State(), metrics.create()

    def on_first_model(served_model):
        server.accepting = True
        runtime, precision = served_model.classifier.runtime or ("keras", None)
        announce({"model": served_model.name, "runtime": runtime, "precision": precision})

    def count_refusal(path, status):
        server_metrics.requests.labels(route_of(path), status).inc()

    settings, decoding_bytes = _settings(options, token)
    budget = DecodingBudget(decoding_bytes)
    loader = ModelLoader(options, model_path, state, server_metrics, budget, on_first_model)
    for signal_number in ENDING_SIGNALS:
        signal.signal(signal_number, lambda *_: setattr(state, "closing", True))
    for signal_number in RELOADING_SIGNALS:
        signal.signal(signal_number, lambda *_: loader.reload())
    server = http_server.create(
        create_application(state, settings, server_metrics),
        listeners[0],
        settings,
        options.max_queue + options.max_batch,
        count_refusal,
    )
    # One of several processes leaves connections to the others until it has a model.
    server.accepting = options.workers == 1
    if listeners[1:]:
        application = create_application(state, settings, server_metrics, http_server.PROBES)
        http_server.run_probes(application, listeners[1], settings, count_refusal)
    keep_little_memory()
    threading.Thread(target=_tidy, name="tidy", daemon=True).start()
    loader.start()
    http_server.run(server, state)
    _shut_down(server, loader, state)


def _settings(options, token):
    """(`prediction_service.Settings`, bytes that decoding may take) of this process."""
    from deployment.access import Access
    from deployment.prediction_service import Settings

    max_bytes = int(options.max_megabytes * 1e6)
    decoding_bytes, body_bytes = share_memory(options, max_bytes)
    origins = tuple(origin.lower() for origin in options.cors or ())
    settings = Settings(
        top_k=options.top_k,
        # A request with more images than may wait would be refused for ever.
        max_images=min(options.max_images, options.max_queue),
        max_bytes=max_bytes,
        time_limit=options.time_limit,
        access=Access(token, allowed_hosts(options), origins),
        language=options.lang,
        body_bytes=body_bytes,
    )
    return settings, decoding_bytes


def share_memory(options, max_bytes):
    """How much memory requests may take in this process, above that of the model.

    Args:
        options: options of the mode; `memory_megabytes` and `workers` are looked at.
        max_bytes: int, maximum size of a body, two of which always have room.

    Returns:
        (int, bytes for decoding; int, bytes for bodies).
    """
    total = (options.memory_megabytes or 0) * 1e6
    if not total:
        total = min(usable_memory() * MEMORY_FRACTION, MEMORY * options.workers)
    own_share = total / options.workers
    body_bytes = max(own_share * BODY_FRACTION, 2 * max_bytes)
    return int(own_share * (1 - BODY_FRACTION)), int(body_bytes)


def allowed_hosts(options):
    """The names in the header Host that are answered.

    A server without a token on this machine's own address is protected by nothing else from web
    pages whose name leads to that address.

    Args:
        options: options of the mode; `host`, `token_file` and `allow_host` are looked at.

    Returns:
        tuple of str in lower case, or None where all are.
    """
    names = tuple(name.lower() for name in options.allow_host or ())
    if not names and (options.token_file or not is_loopback(options.host)):
        return None
    own_name = f"[{options.host}]" if ":" in options.host else options.host
    return tuple(dict.fromkeys((*LOOPBACK_NAMES, own_name.lower(), *names)))


def _tidy():
    """Gives memory that a storm of requests has left back to the system, every few seconds."""
    while True:
        time.sleep(TIDY_SECONDS)
        give_back_memory()


def _shut_down(server, loader, state):
    """Finishes the requests under way, then ends all threads."""
    from deployment import http_server
    from deployment.log import log

    if not loader.failure:
        log("ending")
    ends_at = time.monotonic() + SHUTDOWN
    cut_off = http_server.drain(server, SHUTDOWN)
    if cut_off:
        log(f"ended with {cut_off} requests unanswered after {SHUTDOWN} seconds")
        os._exit(1)  # a thread may hang in the model for ever
    # A model that answers already is only warmed up, which ends; the first may take minutes.
    seconds = ends_at - time.monotonic() if state.served_model else LOADER_SECONDS
    is_stopped = loader.stop(max(seconds, LOADER_SECONDS))
    if loader.failure:
        raise loader.failure
    served_model, state.served_model = state.served_model, None
    if served_model:
        served_model.batcher.close()
    if state.keeper:
        state.keeper.close()
    log("ended")
    if not is_stopped:
        os._exit(0)  # a library that is in the middle of loading a model does not end well
    # When Python exits, signals get their default action again: one more would make a failure of
    # a process that ended well. So would output that cannot be written.
    for signal_number in (*ENDING_SIGNALS, *RELOADING_SIGNALS):
        signal.signal(signal_number, signal.SIG_IGN)
    tolerate_closed_output()


def read_token(token_path):
    """Reads the token of `--token_file`.

    Args:
        token_path: str, a text file.

    Returns:
        bytes, without white space around them.

    Raises:
        InputError: the file cannot be read, or is not one word of at least `MIN_TOKEN` ASCII
            characters.
    """
    try:
        with open(token_path, "rb") as token_file:
            token = token_file.read(4096).strip()
    except OSError as error:
        raise InputError(f"--token_file: {token_path}: cannot be read: {error.strerror}") from None
    if len(token) < MIN_TOKEN or not all(0x21 <= byte <= 0x7E for byte in token):
        raise InputError(
            f"--token_file: {token_path}: must hold one line of at least {MIN_TOKEN} visible ASCII "
            f"characters without spaces; it holds {len(token)} bytes"
        )
    return token


def check_host(options):
    """Checks that only a protected or openly unprotected server can be reached by others.

    Args:
        options: options of the mode; `host`, `token_file` and `no_auth` are looked at.

    Raises:
        InputError: other machines can reach the address, and neither a token nor `--no_auth` is
            given; or both are.
    """
    if options.token_file and options.no_auth:
        raise InputError("--no_auth: yes contradicts --token_file; leave one of them out")
    if not (is_loopback(options.host) or options.token_file or options.no_auth):
        raise InputError(
            f"--host: {options.host} can be reached from other machines; --token_file PATH lets "
            "in those who know the token, --no_auth lets in everybody"
        )


def is_loopback(host):
    """Whether an address can be reached from this machine alone.

    Args:
        host: str, an address or a name.

    Returns:
        bool.
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    import run

    sys.exit(run.main(["--mode", "serve", *sys.argv[1:]]))
