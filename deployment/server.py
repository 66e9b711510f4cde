"""`--mode serve`: answers requests over HTTP with an exported model or a run.

python deployment/server.py --model RUN_OR_FOLDER [options]
"""

import functools
import ipaddress
import json
import os
import signal
import sys

if __name__ == "__main__":
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from common.errors import InputError
from common.listening import listen, listening_url
from config.mode_options import ServeOptions
from runs import run_folder

MIN_TOKEN = 16  # characters
SHUTDOWN = 30  # seconds in which requests under way are finished
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
    with listen(options.host, options.port) as listener:
        announce = functools.partial(print_ready_line, options, listening_url(listener))
        work = functools.partial(serve, options, model_path, token, listener)
        if options.workers == 1:
            work(announce)
        else:
            from deployment.workers import Supervisor

            Supervisor(options.workers, listener, work, announce).run()


def print_ready_line(options, url, about):
    """Tells that requests are answered, in a line for people or, with `--json`, for programs.

    Args:
        options: options of the mode.
        url: str, where the server listens.
        about: dict of the model's name, runtime and precision.
    """
    if options.json:
        line = json.dumps({"ready": True, "url": url, **about, "pid": os.getpid()})
    else:
        computing = " in ".join(filter(None, (about["runtime"], about["precision"])))
        line = f"serving {about['model']} with {computing} on {url} (press Ctrl-C to stop)"
    print(line, flush=True)


def serve(options, model_path, token, listener, announce):
    """Serves in this process until SIGTERM or SIGINT; SIGHUP loads the model again.

    Windows has no SIGHUP: the server is started again for another model.

    Args:
        options: options of the mode.
        model_path: str, a run or an exported model.
        token: bytes that requests have to bring, or None.
        listener: a socket that listens.
        announce: function called when the first model is ready, with a dict of its name, runtime
            and precision.

    Raises:
        InputError: the first model cannot be loaded.
    """
    # Imported here, so that a wrong option is refused without waiting for them.
    from deployment import http_server, metrics
    from deployment.application import create_application
    from deployment.model_loader import ModelLoader
    from deployment.prediction_service import Settings, State

    state, server_metrics = State(), metrics.create()

    def on_first_model(served_model):
        server.accepting = True
        runtime, precision = served_model.classifier.runtime or ("keras", None)
        announce({"model": served_model.name, "runtime": runtime, "precision": precision})

    loader = ModelLoader(options, model_path, state, server_metrics, on_first_model)
    for signal_number in ENDING_SIGNALS:
        signal.signal(signal_number, lambda *_: setattr(state, "closing", True))
    for signal_number in RELOADING_SIGNALS:
        signal.signal(signal_number, lambda *_: loader.reload())
    settings = Settings(
        top_k=options.top_k,
        # A request with more images than may wait would be refused for ever.
        max_images=min(options.max_images, options.max_queue),
        max_bytes=int(options.max_megabytes * 1e6),
        time_limit=options.time_limit,
        token=token,
        language=options.lang,
    )
    server = http_server.create(
        create_application(state, settings, server_metrics),
        listener,
        settings,
        options.max_queue + options.max_batch,
        lambda status: server_metrics.requests.labels("none", status).inc(),
    )
    # One of several processes leaves connections to the others until it has a model.
    server.accepting = options.workers == 1
    loader.start()
    http_server.run(server, state)
    _shut_down(server, loader, state)


def _shut_down(server, loader, state):
    """Finishes the requests under way, then ends all threads."""
    from deployment import http_server
    from deployment.application import log

    if not loader.failure:
        log("ending")
    cut_off = http_server.drain(server, SHUTDOWN)
    if cut_off:
        log(f"ended with {cut_off} requests unanswered after {SHUTDOWN} seconds")
        os._exit(1)  # a thread may hang in the model for ever
    loader.stop(SHUTDOWN)
    if loader.failure:
        raise loader.failure
    served_model, state.served_model = state.served_model, None
    if served_model:
        served_model.batcher.close()
    if state.keeper:
        state.keeper.close()
    log("ended")
    # When Python exits, signals get their default action again: one more would make a failure of
    # a process that ended well.
    for signal_number in (*ENDING_SIGNALS, *RELOADING_SIGNALS):
        signal.signal(signal_number, signal.SIG_IGN)


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
    try:
        is_loopback = ipaddress.ip_address(options.host).is_loopback
    except ValueError:
        is_loopback = options.host == "localhost"
    if not (is_loopback or options.token_file or options.no_auth):
        raise InputError(
            f"--host: {options.host} can be reached from other machines; --token_file PATH lets "
            "in those who know the token, --no_auth lets in everybody"
        )


if __name__ == "__main__":
    import run

    sys.exit(run.main(["--mode", "serve", *sys.argv[1:]]))
