"""`--mode serve`: answers requests over HTTP with an exported model or a run.

python deployment/server.py --model RUN_OR_FOLDER [options]
"""

import errno
import ipaddress
import json
import os
import queue
import signal
import socket
import sys
import threading

import numpy as np

if __name__ == "__main__":
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from common.cpu import usable
from common.errors import InputError
from runs import run_folder

MIN_TOKEN = 16  # characters
SHUTDOWN = 30  # seconds in which requests under way are finished


def main(options):
    """`--mode serve`."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # before there is a model to load again
    token = read_token(options.token_file) if options.token_file else None
    check_host(options)
    path = run_folder.find(options.model, options.save_dir, "--model")
    with listen(options.host, options.port) as listener:
        host, port = listener.getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

        def announce(about):
            if options.json:
                line = json.dumps({"ready": True, "url": url, **about, "pid": os.getpid()})
            else:
                computing = " in ".join(filter(None, (about["runtime"], about["precision"])))
                line = f"serving {about['model']} with {computing} on {url} (Ctrl-C ends it)"
            print(line, flush=True)

        def work(announce):
            serve(options, path, token, listener, announce)

        if options.workers == 1:
            work(announce)
        else:
            from deployment.workers import supervise

            supervise(options.workers, listener, work, announce)


def serve(options, path, token, listener, announce):
    """Serves in this process until SIGTERM or SIGINT; SIGHUP loads the model again.

    Args:
        options: of `--mode serve`.
        path: the run or exported model.
        token: bytes that requests have to bring, or None.
        listener: a socket that listens.
        announce: function called when the first model is ready, with a dict of its name, runtime
            and precision.

    Raises:
        InputError: the first model cannot be loaded.
    """
    # Here, so that a wrong option is refused before they are imported.
    from deployment import http_server, metrics
    from deployment.application import Settings, State, create_application, log

    state, counted = State(), metrics.create()
    orders = queue.SimpleQueue()  # to load the model again; None ends it
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: setattr(state, "closing", True))
    signal.signal(signal.SIGHUP, lambda *_: orders.put(True))
    # A request with more images than may wait would be refused for ever.
    settings = Settings(
        options.top_k,
        min(options.max_images, options.max_queue),
        int(options.max_megabytes * 1e6),
        options.time_limit,
        token,
    )
    server = http_server.create(
        create_application(state, settings, counted),
        listener,
        settings,
        options.max_queue + options.max_batch,
        lambda status: counted.requests.labels("none", status).inc(),
    )
    # One of several leaves connections to the others until it has a model.
    server.accepting = options.workers == 1
    failures = []

    def keep_loaded():
        try:
            _first_model(options, path, state, counted, server, announce)
        except Exception as error:
            failures.append(error)
            state.closing = True
            return
        try:
            state.served.batcher.warm(_blank(state.served.classifier))
        except Exception as error:
            log(f"no larger batches: {' '.join(str(error).split())}")
        while orders.get():
            try:
                _next_model(options, path, state, counted)
                log(f"loaded again: {path}")
            except Exception as error:
                log(f"the old model goes on serving: {' '.join(str(error).split())}")

    loader = threading.Thread(target=keep_loaded, daemon=True)
    loader.start()
    http_server.run(server, state)
    if not failures:
        log("ending")
    cut_off = http_server.drain(server, SHUTDOWN)
    if cut_off:
        log(f"ended with {cut_off} requests unanswered after {SHUTDOWN} seconds")
        os._exit(1)  # a thread may hang in the model for ever
    orders.put(None)
    loader.join(SHUTDOWN)
    if failures:
        raise failures[0]
    served, state.served = state.served, None
    if served:
        served.batcher.close()
    if state.keeper:
        state.keeper.close()
    log("ended")
    # Python's own end gives signals their default again: one more would kill what ended well.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _first_model(options, path, state, counted, server, announce):
    from deployment.uncertain_images import Keeper

    served = _load(options, path, counted)
    classifier = served.classifier
    if options.keep_uncertain:
        state.keeper = Keeper(
            options.keep_uncertain,
            classifier.class_names,
            options.keep_below,
            options.keep_megabytes * 1e6,
        )
    _count_model(counted, served, 1)
    state.served = served
    server.accepting = True
    runtime, precision = classifier.runtime or ("keras", None)
    announce({"model": served.name, "runtime": runtime, "precision": precision})


def _next_model(options, path, state, counted):
    """Loads the model again, and puts it in the old one's place when it is warm."""
    served = _load(options, path, counted)
    try:
        served.batcher.warm(_blank(served.classifier))
    except BaseException:
        served.batcher.close()
        raise
    old, state.served = state.served, served
    old.batcher.close()
    _count_model(counted, old, 0)
    _count_model(counted, served, 1)


def _count_model(counted, served, value):
    runtime, precision = served.classifier.runtime or ("keras", "")
    counted.model.labels(served.name, runtime, precision).set(value)


def _load(options, path, counted):
    """The model of an exported folder or run, a `Served`, ready for one image."""
    from data.decoding import load
    from deployment.application import Served
    from deployment.batching import Batcher
    from prediction.classifier import TOP_K, Classifier, check_top_k

    name = os.path.basename(path)
    if run_folder.is_exported(path):
        from prediction.exported_model import read_description

        name = str(read_description(path).get("run") or name)
    classifier = Classifier.load(path, runtime=options.runtime, allow_low_precision=True)
    check_top_k(options.top_k, len(classifier.class_names), TOP_K)
    classifier.probabilities(_blank(classifier)[None])
    preprocessing = classifier.preprocessing
    max_pixels = min(preprocessing.max_pixels, int(options.max_megapixels * 1e6))
    preprocessing = preprocessing._replace(max_pixels=max_pixels)

    def observe(size, waiting):
        counted.batch.observe(size)
        counted.queue.set(waiting)

    batcher = Batcher(
        lambda source: load(source, preprocessing),
        classifier.probabilities,
        options.max_batch,
        options.max_wait_ms / 1000,
        options.max_queue,
        usable(),
        observe,
    )
    return Served(name, classifier, batcher)


def _blank(classifier):
    size = classifier.preprocessing.size
    return np.zeros((size, size, 3), np.uint8)


def read_token(path):
    """The token of --token_file, bytes.

    Raises:
        InputError: it cannot be read, is too short or no single word of ASCII.
    """
    try:
        with open(path, "rb") as file:
            token = file.read(4096).strip()
    except OSError as error:
        raise InputError(f"--token_file: {path}: cannot be read: {error.strerror}") from None
    if len(token) < MIN_TOKEN or not all(0x21 <= byte <= 0x7E for byte in token):
        raise InputError(
            f"--token_file: {path}: has to hold one line of at least {MIN_TOKEN} visible ASCII "
            f"characters without spaces; it holds {len(token)} bytes"
        )
    return token


def check_host(options):
    """Refuses an address that others reach, unless a token or --no_auth is given."""
    if options.token_file and options.no_auth:
        raise InputError("--no_auth: yes contradicts --token_file; leave one of them out")
    try:
        loopback = ipaddress.ip_address(options.host).is_loopback
    except ValueError:
        loopback = options.host == "localhost"
    if not (loopback or options.token_file or options.no_auth):
        raise InputError(
            f"--host: {options.host} can be reached from other machines; --token_file PATH lets "
            "in those who know the token, --no_auth lets in everybody"
        )


def listen(host, port):
    """A socket that listens.

    Raises:
        InputError: the address is not this machine's, or the port is in use.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family, backlog=1024)
    except (OSError, UnicodeError) as error:
        number = getattr(error, "errno", None)
        if number == errno.EADDRINUSE:
            reason = f"--port: {port} is in use on {host}; --port 0 takes a free one"
        elif number == errno.EACCES:
            reason = f"--port: {port} needs rights that this user does not have; take one from 1024"
        else:
            words = getattr(error, "strerror", None) or "is none"
            reason = f"--host: {host} is no address to listen on: {words}"
        raise InputError(reason) from None


if __name__ == "__main__":
    import run

    sys.exit(run.main(["--mode", "serve", *sys.argv[1:]]))
