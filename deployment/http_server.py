"""Waitress as this server needs it: errors in JSON, and an end that leaves no one unanswered."""

import logging
import secrets
import socket
import time

from waitress.channel import HTTPChannel
from waitress.server import create_server
from waitress.task import ErrorTask, WSGITask
from waitress.wasyncore import close_all, dispatcher, poll2

from deployment.http_errors import HEADERS, JSON, error_body, too_large

CONNECTIONS = 500  # each may hold a file open besides; processes often may open 1024
SPARE_THREADS = 16  # for what does not wait: refusals, health checks
MAX_THREADS = 1000
LINGER = 5  # seconds in which a client may send the rest of a body that was refused
GRACE = 0.2  # seconds after a signal in which requests that are on their way still arrive


class _Task(WSGITask):
    def build_response_header(self):
        if self.channel.server.ending:
            self.set_close_on_finish()
        return super().build_response_header()


class _Refusal(ErrorTask):
    """A request that is not HTTP, or too large, and does not reach the application."""

    def execute(self):
        server, error = self.channel.server, self.request.error
        code, message = "bad_request", error.body
        if error.code == 413:
            code, message = "too_large", too_large(server.max_bytes)
        elif error.code >= 500 and error.code != 501:
            code, message = "internal", "the server failed at this request; its log says why"
        request_id = secrets.token_hex(8)
        body = error_body(code, message, request_id)
        self.status = f"{error.code} {error.reason}"
        self.response_headers.extend(
            [("Content-Type", JSON), ("X-Request-ID", request_id), *HEADERS.items()]
        )
        self.channel.refused = True
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)
        server.count_refusal(error.code)


class _Channel(HTTPChannel):
    task_class = _Task
    error_task_class = _Refusal
    refused = False  # the rest of the request is still to come
    lingering = None  # until when it is read and thrown away

    # Closing at once would reset the connection, and the client, still sending, would never read
    # why it was refused.
    def handle_close(self):
        if self.refused and self.connected and self.lingering is None:
            self.lingering = time.monotonic() + LINGER
            self.will_close = self.close_when_flushed = False
            try:
                self.socket.shutdown(socket.SHUT_WR)
                return
            except OSError:
                pass
        super().handle_close()

    def readable(self):
        return self.lingering is not None or super().readable()

    def received(self, data):
        if self.lingering is None:
            return super().received(data)
        if time.monotonic() > self.lingering:
            self.handle_close()
        return True


def create(application, listener, settings, max_waiting, count_refusal):
    """A waitress server.

    Args:
        application: the WSGI application.
        listener: a socket that listens.
        settings: an `application.Settings`.
        max_waiting: requests that may wait for the model at once.
        count_refusal: function that takes the status of an answer that waitress gives by itself.
    """
    # A queue of waitress's own forms in a burst even with idle threads; no one need read of it.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # a client could fill the log
    server = create_server(
        application,
        map={},
        sockets=[listener],
        ident=None,
        asyncore_use_poll=True,
        threads=min(max_waiting + SPARE_THREADS, MAX_THREADS),
        connection_limit=CONNECTIONS,
        recv_bytes=1 << 18,  # 8 kB, waitress's default, is 13 turns of its loop for a photo
        max_request_body_size=settings.max_bytes + 1,
        max_request_header_size=1 << 16,
        log_socket_errors=False,
    )
    server.channel_class = _Channel
    server.max_bytes, server.count_refusal, server.ending = settings.max_bytes, count_refusal, False
    return server


def run(server, state):
    """Answers requests until `state.closing`."""
    while not state.closing:
        poll2(0.1, server._map)  # a signal does not end it


def drain(server, seconds):
    """Takes no more connections and finishes what is under way.

    Args:
        server: as `create` gives it.
        seconds: after which it gives up.

    Returns:
        The number of requests that were cut off.
    """
    server.ending = True
    began = time.monotonic()
    while time.monotonic() < began + GRACE:
        poll2(GRACE / 4, server._map)
    dispatcher.close(server)
    while (left := _under_way(server)) and time.monotonic() < began + seconds:
        poll2(0.1, server._map)
    close_all(server._map)
    return left


def _under_way(server):
    return sum(
        bool(channel.requests or channel.request or channel.total_outbufs_len)
        for channel in server.active_channels.values()
    )
