"""The page's side of HTTP: a Flask application that one person uses on one machine."""

import hmac
import os
from typing import NamedTuple

from flask import Flask, Response, abort, request
from werkzeug.exceptions import HTTPException

from common.errors import ImageError, InputError
from common.web_origins import host_problem, origin_problem
from data.class_spelling import normalize
from other.labelling.layouts import NO_CLASS, SET_ASIDE
from other.labelling.page import render_page
from other.labelling.pictures import LARGE, Pictures, render
from other.labelling.queues import AUDIT, CONFLICTS, DOUBTFUL

MAX_BYTES = 16 * 2**20  # of a request: the numbers of a million photos
MAX_CHANGED = 2000  # photos in one answer about changes; the page reads its queue anew for more
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Work(NamedTuple):
    """What the page works on.

    Attributes:
        name: str, what the page calls the data set.
        photos: `PhotoSet`.
        queues: `Queues`.
        suggestions: `Suggestions`, or None.
        commands: list of str, what to run next, as it has to be typed.
        first_queue: str, the queue that opens.
    """

    name: str
    photos: object
    queues: object
    suggestions: object
    commands: list
    first_queue: str


def create_application(work, token, language=None):
    """Makes the WSGI application.

    Everything lies under the token; other hosts and origins are refused, so that no page of the
    web can reach it through a browser.

    Args:
        work: `Work`.
        token: str, the first part of every path.
        language: str, "en" or "zh"; None is the browser's.

    Returns:
        `flask.Flask`.
    """
    application = Flask("labelling", static_folder=None)
    application.config["MAX_CONTENT_LENGTH"] = MAX_BYTES
    guard = Guard(token)
    application.before_request(guard.check)
    application.after_request(guard.finish)
    application.register_error_handler(Exception, answer_error)
    routes = Routes(work, language)
    for method, path, view in (
        ("GET", "/", routes.index),
        ("GET", "/api/state", routes.state),
        ("POST", "/api/queue", routes.queue),
        ("POST", "/api/photos", routes.photos),
        ("POST", "/api/label", routes.label),
        ("POST", "/api/undo", routes.undo),
        ("POST", "/api/redo", routes.redo),
        ("POST", "/api/class", routes.add_class),
        ("POST", "/api/rename", routes.rename_class),
        ("GET", "/thumbnail/<int:position>", routes.thumbnail),
        ("GET", "/photo/<int:position>", routes.photo),
    ):
        application.add_url_rule(f"/<token>{path}", view_func=view, methods=[method])
    return application


class Guard:
    """What every request goes through.

    Args:
        token: str.
    """

    def __init__(self, token):
        self._token = token.encode()

    def check(self):
        """Refuses requests without the token, to another host or from another origin."""
        problem = host_problem(request.headers.get("Host", "")) or origin_problem(
            lambda name: request.headers.get(name, "")
        )
        if problem:
            abort(403, problem)
        token = (request.view_args or {}).pop("token", "")
        if not hmac.compare_digest(token.encode("utf-8", "replace"), self._token):
            abort(404, "open the address that run.py --mode label has printed")
        if request.method == "POST" and request.mimetype != "application/json":
            abort(415, "JSON is needed")

    def finish(self, response):
        """Adds the headers of every answer.

        Args:
            response: `flask.Response`.
        """
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Content-Security-Policy", "default-src 'none'")
        return response


def answer_error(error):
    """The JSON answer to a request that raised an error.

    Args:
        error: Exception.

    Returns:
        (dict, int), body and status.
    """
    if isinstance(error, HTTPException):
        return {"error": error.description}, error.code
    if isinstance(error, ImageError):  # an InputError as well
        return {"error": error.reason}, 422
    if isinstance(error, InputError):
        return {"error": str(error)}, 409
    if isinstance(error, OSError):
        name = os.path.basename(str(error.filename or ""))
        return {"error": f"{name}: {error.strerror or error}"}, 409
    raise error


class Routes:
    """The routes; each method answers one.

    Args:
        work: `Work`.
        language: str or None, as of `create_application`.
    """

    def __init__(self, work, language):
        self._work, self._language = work, language
        self._pictures = Pictures()

    def index(self):
        """The page."""
        content, headers = render_page(
            self._work.name,
            self._work.commands,
            self._language,
            request.headers.get("Accept-Language"),
        )
        return Response(content, headers=headers)

    def state(self):
        """What has changed since a version, and how far everything is."""
        photos, queues, suggestions = self._work.photos, self._work.queues, self._work.suggestions
        since = request.args.get("since", 0, int)
        version = photos.version
        changed = photos.changed_since(since) if since else []
        counts = photos.counts()
        answer = {
            "version": version,
            "classes": [
                {"name": name, "count": count}
                for name, count in counts.items()
                if name not in (NO_CLASS, SET_ASIDE)
            ],
            "queues": queues.counts(),
            "first_queue": self._work.first_queue,
            "undoable": photos.undoable,
            "redoable": photos.redoable,
            "reload": len(changed) > MAX_CHANGED,
            "changed": [self._describe(i) for i in changed[:MAX_CHANGED]],
        }
        return {**answer, "suggestions": suggestions and suggestions.state()}

    def queue(self):
        """The photos of a queue, in order."""
        return {"ids": self._work.queues.list(self._text("name"))}

    def photos(self):
        """What is known of photos."""
        return {"photos": [self._describe(i) for i in self._positions(self._read())]}

    def label(self):
        """Gives photos classes, or none, or sets them aside: as many steps as there are labels."""
        labels = self._read().get("labels")
        if not isinstance(labels, list):
            abort(400, "labels are missing")
        steps = [(self._positions(label), self._label_name(label)) for label in labels]
        changed = 0
        for done, (positions, name) in enumerate(steps):
            try:
                changes = self._work.photos.label(positions, name)
            except (InputError, OSError) as error:
                answer, status = answer_error(error)
                return {**answer, "done": done}, status
            self._work.queues.settle(changes)
            changed += self._after(changes)["changed"]
        return {"changed": changed, "done": len(steps)}

    def undo(self):
        """Takes the last step back."""
        changes = self._work.photos.undo()
        self._work.queues.settle(changes, is_undone=True)
        return self._after(changes)

    def redo(self):
        """Repeats the step that was undone last."""
        changes = self._work.photos.redo()
        self._work.queues.settle(changes)
        return self._after(changes)

    def add_class(self):
        """Offers a new class."""
        return {"name": self._work.photos.add_class(self._text("name"))}

    def rename_class(self):
        """Renames a class, or makes it a part of another."""
        new_name = self._text("new_name")
        changes = self._work.photos.rename_class(self._text("name"), new_name)
        return {**self._after(changes), "name": normalize(new_name)}

    def thumbnail(self, position):
        """A small picture."""
        return self._picture(self._pictures.thumbnail(self._path(position)))

    def photo(self, position):
        """A large picture."""
        return self._picture(render(self._path(position), LARGE))

    # Inside

    def _after(self, changes):
        if self._work.suggestions and changes:
            self._work.suggestions.note_labels()
        return {"changed": len(changes)}

    def _describe(self, position):
        photos, suggestions = self._work.photos, self._work.suggestions
        hints = self._work.queues.hints
        description = {
            "id": position,
            "path": photos.paths[position].encode("utf-8", "backslashreplace").decode(),
            "name": photos.names[position],
        }
        guess = suggestions and suggestions.guess(position)
        if guess:
            description["guess"], description["probability"] = guess
        for name in (DOUBTFUL, CONFLICTS, AUDIT):
            hint = hints[name].get(position)
            if hint and hint["label"] == photos.names[position]:
                description["hint"] = hint
                break
        return description

    def _read(self):
        content = request.get_json()
        if not isinstance(content, dict):
            abort(400, "an object is needed")
        return content

    def _positions(self, content):
        positions = content.get("ids") if isinstance(content, dict) else None
        last = len(self._work.photos.paths)
        if not isinstance(positions, list) or not all(
            type(i) is int and 0 <= i < last for i in positions
        ):
            abort(400, "ids are not numbers of photos")
        return positions

    def _label_name(self, content):
        name = content.get("name")
        if name is not None and not isinstance(name, str):
            abort(400, "name is not a text")
        return name

    def _text(self, name):
        text = self._read().get(name)
        if not isinstance(text, str):
            abort(400, f"{name} is not a text")
        return text

    def _path(self, position):
        if position >= len(self._work.photos.paths):
            abort(404, "no such photo")
        return self._work.photos.path(position)

    def _picture(self, content):
        headers = {"Cache-Control": "private, max-age=60"}
        return Response(content, mimetype="image/jpeg", headers=headers)
