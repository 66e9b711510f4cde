"""Waitress as this server needs it: errors in JSON, and a shutdown that answers every request."""

import logging
import secrets
import select
import socket
import time

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import create_server
from waitress.task import ErrorTask, WSGITask

from deployment.http_errors import HEADERS, INTERNAL, JSON, error_body, too_large

CONNECTIONS = 500  # each may hold a file open as well; processes often may open 1024
SPARE_THREADS = 16  # for requests that do not wait for the model: refusals, health checks
MAX_THREADS = 1000
LINGER = 5  # seconds in which a client may send the rest of a refused body
_poll = wasyncore.poll2 if hasattr(select, "poll") else wasyncore.poll  # Windows has only select
GRACE = 0.2  # seconds after a signal in which requests that are already sent still arrive


class _Task(WSGITask):
    def build_response_header(self):
        if self.channel.server.ending:
            self.set_close_on_finish()
        return super().build_response_header()


class _Refusal(ErrorTask):
    """The answer to a request that is not HTTP or too large, and never reaches the application."""

    def execute(self):
        server, error = self.channel.server, self.request.error
        error_code, message = "bad_request", error.body
        if error.code == 413:
            error_code, message = "too_large", too_large(server.max_bytes)
        elif error.code >= 500 and error.code != 501:
            error_code, message = "internal", INTERNAL
        request_id = secrets.token_hex(8)
        body = error_body(error_code, message, request_id)
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
    refused = False  # a request was refused whose rest may still come
    linger_until = None  # time until which that rest is read and thrown away

    # Closing at once would reset the connection, and the client, still sending, would never read
    # why it was refused.
    def handle_close(self):
        if self.refused and self.connected and self.linger_until is None:
            self.linger_until = time.monotonic() + LINGER
            self.will_close = self.close_when_flushed = False
            try:
                self.socket.shutdown(socket.SHUT_WR)
                return
            except OSError:
                pass
        super().handle_close()

    def readable(self):
        return self.linger_until is not None or super().readable()

    def received(self, data):
        if self.linger_until is None:
            return super().received(data)
        if time.monotonic() > self.linger_until:
            self.handle_close()
        return True


def create(application, listener, settings, max_waiting, count_refusal):
    """Creates a waitress server.

    Args:
        application: the WSGI application.
        listener: a socket that listens.
        settings: `prediction_service.Settings`.
        max_waiting: int, maximum number of requests that wait for the model at once.
        count_refusal: function called with the status (int) of each error that waitress answers
            by itself.

    Returns:
        The server, for `run` and `drain`.
    """
    # In a burst waitress queues requests even with idle threads; nobody needs to read about it.
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
    """Answers requests until the server is told to shut down.

    Args:
        server: what `create` returned.
        state: `prediction_service.State`; its attribute `closing` ends it.
    """
    while not state.closing:
        _poll(0.1, server._map)  # a signal does not interrupt it


def drain(server, seconds):
    """Takes no more connections and finishes the requests under way.

    Args:
        server: what `create` returned.
        seconds: float, time after which it gives up.

    Returns:
        int, the number of requests that were cut off.
    """
    server.ending = True
    started_at = time.monotonic()
    while time.monotonic() < started_at + GRACE:
        _poll(GRACE / 4, server._map)
    wasyncore.dispatcher.close(server)
    while (under_way := _count_under_way(server)) and time.monotonic() < started_at + seconds:
        _poll(0.1, server._map)
    wasyncore.close_all(server._map)
    return under_way


def _count_under_way(server):
    return sum(
        bool(channel.requests or channel.request or channel.total_outbufs_len)
        for channel in server.active_channels.values()
    )
