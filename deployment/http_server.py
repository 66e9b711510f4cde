"""Waitress as this server needs it: a loop that stays quick, and a shutdown that answers all."""

import errno
import logging
import select
import threading
import time
from collections import deque
from types import SimpleNamespace

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.server import TcpWSGIServer
from waitress.task import ThreadedTaskDispatcher

from deployment.body_memory import BodyBudget
from deployment.connection_poll import HAS_POLL, ConnectionPoll
from deployment.flood_control import Gate, MemoryRow, RefusalPace
from deployment.http_channel import Channel
from deployment.http_errors import INTERNAL, STATUS, Refused, too_large
from deployment.http_parser import MAX_HEADER
from deployment.log import log_rarely

CONNECTIONS = 500  # processes often may open 1024 files
SPARE_THREADS = 16  # for requests that do not wait for the model: the page, metrics
MAX_THREADS = 1000
RECEIVED_BYTES = 1 << 16  # at most, from one connection in one turn of the loop
PATIENT_SECONDS = 0.004  # of a turn, so that a health check never waits for all that arrives
ACCEPTED_PER_TURN = 64
CHECK_SECONDS = 0.25  # between two looks at the deadlines of all connections
GRACE = 0.2  # seconds after a signal in which requests that are already sent still arrive
PROBES = ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready")
REASONS = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    408: "Request Timeout",
    413: "Content Too Large",
    503: "Service Unavailable",
}


class Server(TcpWSGIServer):
    """Connections of one listening socket, in a loop on the thread that calls `turn`.

    Refusals and probes are answered in the loop itself, everything else by the threads.

    Args:
        application: the WSGI application.
        listener: a socket that listens.
        threads: int, number of threads for the application.
        settings: `prediction_service.Settings`.
        count_refusal: function called with the path (str) and status (int) of each request that
            is answered without the application.

    Attributes:
        accepting: bool, whether connections are taken.
        ending: bool, whether every answer is the last of its connection.
    """

    channel_class = Channel

    def __init__(self, application, listener, threads, settings, count_refusal):
        dispatcher = ThreadedTaskDispatcher()
        dispatcher.set_thread_count(threads)
        adjustments = Adjustments(
            ident=None,
            threads=threads,
            recv_bytes=RECEIVED_BYTES,
            max_request_body_size=settings.max_bytes + 1,
            max_request_header_size=MAX_HEADER,
            log_socket_errors=False,
        )
        socket_info = (listener.family, listener.type, listener.proto, listener.getsockname())
        self.count_refusal, self.ending = count_refusal, False
        self._settings, self._budget = settings, BodyBudget(settings.body_bytes)
        self._gate, self._refusals, self._row = Gate(), RefusalPace(), MemoryRow(self._budget)
        self._poll, self._takes_last = ConnectionPoll() if HAS_POLL else None, False
        self._quick, self._loop_thread, self._next_check = [], None, 0.0
        super().__init__(
            application,
            {},
            _sock=listener,
            dispatcher=dispatcher,
            adj=adjustments,
            sockinfo=socket_info,
            bind_socket=False,
        )

    # What waitress's own code calls

    def readable(self):
        """Whether connections are taken; deadlines are kept in `turn`."""
        return self.accepting and self._may_accept()

    def handle_accept(self):
        """Takes connections; at the limit, each closes the one that has idled longest."""
        idle = None  # sorted when it is needed, and once: there may be hundreds
        for _ in range(ACCEPTED_PER_TURN):
            is_full = len(self.active_channels) >= CONNECTIONS
            if is_full and idle is None:
                idle = self._idle()
            if is_full and not idle:
                return
            try:
                accepted = self.accept()
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    log_rarely("files", f"no connection can be taken: {error.strerror}")
                    _close_oldest(idle or self._idle())
                return
            if accepted is None:
                return
            if is_full:
                _close_oldest(idle)
            connection, address = accepted
            try:
                self.set_socket_options(connection)
            except OSError:  # it has gone already
                connection.close()
                continue
            self.channel_class(self, connection, address, self.adj, map=self._map)

    def handle_error(self):
        """Keeps the loop going after an exception."""
        _, error_type, error, place = self.compact_traceback()
        log_rarely("server", f"the server's loop failed: {error_type.__name__}: {error} {place}")

    def add_task(self, channel):
        """Has the first request of a connection answered.

        Args:
            channel: `Channel`.
        """
        request = channel.requests[0]
        is_probe = getattr(request, "path", "") in PROBES and not request.has_body
        if (request.error or is_probe) and threading.get_ident() == self._loop_thread:
            is_late = request.error and not self.ending and self._refusals.postpone(channel)
            if not is_late:
                self._quick.append(channel)
        elif self._gate.enter(channel):
            super().add_task(channel)

    def let_next_begin(self, request):
        """Takes note that a request waits for the model's answer, or has its own.

        Args:
            request: `Parser`; the second time, nothing happens.
        """
        channel = self._gate.leave(request)
        if channel is not None:
            super().add_task(channel)

    # What a connection asks

    def admit(self, channel, request):
        """Gives the body of a request its place, before any of it is taken in.

        Args:
            channel: `Channel`, which waits for its place in a row where there is none.
            request: `Parser` with complete headers, the channel's.

        Returns:
            `Body`; None where the channel has to wait for memory.

        Raises:
            Refused: the request would be refused anyway.
        """
        self._settings.access.check(request.header)
        if self._settings.access.token:
            self._settings.access.check_token(request.header)
        size = self._settings.max_bytes if request.chunked else request.content_length
        if not self._budget.fits(size):
            self._refuse_slow_bodies(size)
        return self._row.take(channel, size)

    def cors_headers(self, request):
        """The headers by which a page of another origin may read a refusal, a dict.

        Args:
            request: `Parser`.
        """
        return self._settings.access.cors_headers(request.header)

    def explain(self, error):
        """What is answered to a request that has an error.

        Args:
            error: `Refused`, or one of waitress's errors.

        Returns:
            (`Refused`, str such as "400 Bad Request").
        """
        if isinstance(error, Refused):
            status = STATUS[error.code]
            return error, f"{status} {REASONS[status]}"
        status = f"{error.code} {error.reason}"
        if error.code == 413:
            return Refused("too_large", too_large(self._settings.max_bytes)), status
        if error.code >= 500 and error.code != 501:
            return Refused("internal", INTERNAL), status
        return Refused("bad_request", error.body), status

    # The loop

    def turn(self, seconds):
        """Waits for what happens on any connection, and deals with it.

        Args:
            seconds: float, maximum time to wait; a signal does not end it.
        """
        self._loop_thread = threading.get_ident()
        resumable = [channel for channel in self.active_channels.values() if channel.can_resume]
        if self._poll:
            events = self._poll.ready(dict(self._map), 0 if resumable else seconds)
            self._deal_with(events, resumable)
        else:  # Windows
            wasyncore.poll(0 if resumable else seconds, self._map)
            self._answer_quick()
            for channel in resumable:
                _attempt(channel, channel.resume)
        self._answer_quick()
        for channel in self._refusals.take_due():
            _attempt(channel, channel.service)
        for channel, body in self._row.take_served():
            _attempt(channel, channel.begin_body, body)
        now = time.monotonic()
        if now >= self._next_check:
            self._next_check = now + CHECK_SECONDS
            if row := self._row.waiting():
                self._refuse_slow_bodies(row[0].body_size)
            for channel in list(self.active_channels.values()):
                _attempt(channel, channel.keep_deadline, now)
            self._answer_quick()

    def _deal_with(self, events, resumable):
        """Writes, takes connections and reads, and goes on with `resumable` connections.

        The first requests of connections come first, as probes do, then further requests, then
        what sends on and on.
        """
        first, further = [], []
        patient = [(channel, None) for channel in resumable]
        for handler, flags in events:
            if not (flags & select.POLLIN and isinstance(handler, Channel)):
                self._read_write(handler, flags)
            elif handler.unanswered_bytes:
                patient.append((handler, flags))
            else:
                (further if handler.answer_count else first).append((handler, flags))
        self._take_in(first, is_new=True)
        self._take_in(further)
        self._take_in(patient)

    def _take_in(self, waiting, is_new=False):
        """Reads as much as fits into `PATIENT_SECONDS`, beginning with what has waited longest.

        Of new connections the last one comes in turns with the first: a probe does not wait
        behind hundreds that came just before it.
        """
        ends_at = time.monotonic() + PATIENT_SECONDS
        row = deque(sorted(waiting, key=lambda pair: pair[0].last_activity))
        while row:
            self._takes_last ^= is_new
            channel, flags = row.pop() if is_new and self._takes_last else row.popleft()
            if flags is None:
                _attempt(channel, channel.resume)
            else:
                self._read_write(channel, flags)
            self._answer_quick()
            if time.monotonic() > ends_at:
                break

    def _read_write(self, handler, flags):
        # One before it may have closed it, and its descriptor may be another's by now.
        if handler._fileno is not None and self._map.get(handler._fileno) is handler:
            wasyncore.readwrite(handler, flags)

    def _answer_quick(self):
        while self._quick:
            channel = self._quick.pop()
            _attempt(channel, channel.service)

    # Room for others

    def _idle(self):
        """The idle connections, the one that has idled longest last."""
        idle = [channel for channel in self.active_channels.values() if channel.is_idle]
        return sorted(idle, key=lambda channel: channel.waiting_since, reverse=True)

    def _may_accept(self):
        is_full = len(self.active_channels) >= CONNECTIONS
        return not is_full or any(channel.is_idle for channel in self.active_channels.values())

    def _refuse_slow_bodies(self, size):
        """Ends bodies that hardly come, the oldest first, until one of `size` bytes fits."""
        now = time.monotonic()
        slow = [channel for channel in self.active_channels.values() if channel.is_slow(now)]
        for channel in sorted(slow, key=lambda channel: channel.body_since):
            if self._budget.fits(size):
                return
            channel.refuse(Refused("too_slow", "the body comes too slowly while others wait"))


class _RareLines(logging.Handler):
    """Waitress's messages in the server's log, where clients cannot fill it."""

    def emit(self, record):
        if record.levelno >= logging.ERROR:
            error = record.exc_info[1] if record.exc_info else None
            error_text = f": {type(error).__name__}: {error}" if error else ""
            log_rarely("waitress", f"{record.getMessage()}{error_text}")


def _attempt(channel, action, *arguments):
    """Does something for a connection; what goes wrong ends that connection, and not the loop."""
    try:
        action(*arguments)
    except Exception:
        channel.handle_error()


def _close_oldest(idle):
    """Closes the last of a list of idle connections, and takes it off the list."""
    if idle:
        oldest = idle.pop()
        oldest.refused = False
        oldest.handle_close()


def create(application, listener, settings, max_waiting, count_refusal):
    """Creates the server.

    Args:
        application: the WSGI application.
        listener: a socket that listens.
        settings: `prediction_service.Settings`.
        max_waiting: int, maximum number of requests that wait for the model at once.
        count_refusal: function called with the path (str) and status (int) of each request that
            is answered without the application.

    Returns:
        `Server`, for `run` and `drain`.
    """
    waitress_log = logging.getLogger("waitress")
    waitress_log.handlers, waitress_log.propagate = [_RareLines()], False
    # In a burst waitress queues requests even with idle threads; nobody needs to read about it.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # a client could fill the log
    threads = min(max_waiting + SPARE_THREADS, MAX_THREADS)
    return Server(application, listener, threads, settings, count_refusal)


def run(server, state):
    """Answers requests until the server is told to shut down.

    Args:
        server: what `create` returned.
        state: `prediction_service.State`; its attribute `closing` ends it.
    """
    while not state.closing:
        server.turn(0.1)  # a signal does not interrupt it


def run_probes(application, listener, settings, count_refusal):
    """Answers probes on a port and in a thread of their own, as long as the process lives.

    Args:
        application: the WSGI application, with the routes of probes alone.
        listener: a socket that listens.
        settings: `prediction_service.Settings`.
        count_refusal: as of `create`.
    """
    server = Server(application, listener, 1, settings._replace(max_bytes=0), count_refusal)
    state = SimpleNamespace(closing=False)
    threading.Thread(target=run, args=(server, state), name="probes", daemon=True).start()


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
        server.turn(GRACE / 4)
    wasyncore.dispatcher.close(server)
    while (under_way := _count_under_way(server)) and time.monotonic() < started_at + seconds:
        server.turn(0.1)
    wasyncore.close_all(server._map)
    return under_way


def _count_under_way(server):
    return sum(
        bool(channel.requests or channel.request or channel.total_outbufs_len or channel.held)
        for channel in server.active_channels.values()
    )
