"""A page on which photos are sorted into classes and labels corrected, with keys or mouse."""

import json
import logging
import os
import secrets
import sys
import threading
import webbrowser

from common import console, output_places
from common.commands import command_line
from common.errors import InputError
from common.listening import listen, listening_url
from common.tables import READING
from config.mode_options import LabelOptions
from other.labelling.application import Work, create_application
from other.labelling.photo_set import PhotoSet
from other.labelling.queues import Queues
from other.labelling.suggestions import Suggestions
from prediction.classifier import known_labels
from runs import run_folder

HOST = "127.0.0.1"  # never another: who has the address may move all files
RESCAN = 5.0  # seconds between two looks at what other programs have changed
THREADS = 8


def main(options: LabelOptions):
    """`--mode label`: serves the page until it is interrupted."""
    run = run_folder.find(options.run, options.save_dir) if options.run else None
    doubtful_path, findings_path = _tables(options, run)
    with (
        PhotoSet(options.data, known_labels(run) if run else ()) as photos,
        listen(HOST, options.port) as listener,
    ):
        queues = Queues(photos, doubtful_path, findings_path)
        suggestions = _suggestions(options, photos, queues, run)
        first_queue = options.queue or next(
            (name for name, count in queues.counts().items() if count), "unsorted"
        )
        work = Work(
            os.path.basename(os.path.abspath(options.data)),
            photos,
            queues,
            suggestions,
            _next_commands(options),
            first_queue,
        )
        token = secrets.token_urlsafe(24)
        url = f"{listening_url(listener)}/{token}/"
        ended = threading.Event()
        threading.Thread(target=_watch, args=(photos, suggestions, ended), daemon=True).start()
        _announce(options, url)
        try:
            _serve(create_application(work, token, options.lang), listener)
        finally:
            ended.set()
            if suggestions:
                suggestions.close()


def _tables(options, run):
    """The report's table of doubtful labels and the audit's findings, where they are there."""
    doubtful_path = None
    if run:
        page = output_places.latest(os.path.join(run, "report.html"), data=options.data).path
        doubtful_path = os.path.splitext(page)[0] + ".csv"
    audit = output_places.latest("audit", source=options.data).path
    if run and os.path.isdir(f"{run}-audit"):  # as --mode all makes it
        audit = output_places.latest(f"{run}-audit", source=options.data).path
    findings_path = os.path.join(audit, "findings.csv")
    if options.csv:
        header = _header(options.csv)
        if "kind" in header:
            findings_path = options.csv
        elif "suggested" in header:
            doubtful_path = options.csv
        else:
            raise InputError(
                f"--csv: {options.csv} is neither the table of a report nor findings.csv of an "
                "audit"
            )
    paths = [
        path if path and os.path.isfile(path) else None for path in (doubtful_path, findings_path)
    ]
    if options.queue == "doubtful" and not paths[0]:
        raise InputError(
            "--queue doubtful: no report says which labels are doubtful; make one with "
            f"{command_line('report', '--data', options.data)}, and name its run with --run"
        )
    if options.queue in ("audit", "conflicts") and not paths[1]:
        raise InputError(
            f"--queue {options.queue}: {findings_path} does not exist; make it with "
            f"{command_line('audit', '--data', options.data)}, or name it with --csv"
        )
    return paths


def _header(path):
    try:
        with open(path, **READING) as table_file:
            return table_file.readline()
    except OSError as error:
        raise InputError(f"--csv: {path}: cannot be read: {error.strerror}") from None


def _suggestions(options, photos, queues, run):
    if not options.suggest:
        return None
    is_exported = run is not None and run_folder.is_exported(run)
    if is_exported:
        console.say(
            f"note: {run} is an exported model, which gives no features: suggestions are of "
            f"{options.backbone}"
        )
    return Suggestions(photos, queues, None if is_exported else run, options.backbone)


def _next_commands(options):
    return [
        command_line("train", "--data", options.data),
        command_line("compare", "--data", options.data),
    ]


def _announce(options, url):
    """Prints where the page is, and opens it where there is a screen."""
    if options.json:
        print(json.dumps({"ready": True, "url": url, "pid": os.getpid()}), flush=True)
    else:
        print(f"label the photos of {options.data} on {url} (press Ctrl-C to end)", flush=True)
    has_screen = os.name == "nt" or sys.platform == "darwin"
    has_screen = has_screen or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if options.browser and has_screen:
        webbrowser.open(url)


def _watch(photos, suggestions, ended):
    """Takes in what other programs change in the folder."""
    told = None
    while not ended.wait(RESCAN):
        version = photos.version
        try:
            photos.rescan()
        except (InputError, OSError) as error:
            if str(error) != told:
                console.say(f"note: the folder could not be read again: {error}")
            told = str(error)
            continue
        if suggestions and photos.version != version:
            suggestions.note_labels()


def _serve(application, listener):
    from waitress.server import create_server

    # A page asks for more pictures at once than there are threads; nobody needs to read about it.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    server = create_server(
        application,
        sockets=[listener],
        threads=THREADS,
        ident=None,
        max_request_body_size=application.config["MAX_CONTENT_LENGTH"],
        log_socket_errors=False,
    )
    try:
        server.run()
    except KeyboardInterrupt:
        pass
    finally:
        server.close()
