"""One connection: waitress's channel with deadlines, one request at a time, judged before its body.

The loop's thread (`http_server.Server.turn`) calls everything here but `service` of requests for
the application.
"""

import secrets
import socket
import time
from functools import partial

from waitress.channel import HTTPChannel
from waitress.task import ErrorTask, WSGITask

from deployment.access import REQUEST_ID
from deployment.connection_poll import READING, WRITING
from deployment.http_errors import HEADERS, JSON, RETRY_SECONDS, RETRY_SOON, Refused, error_body
from deployment.http_parser import Parser
from deployment.log import log_rarely

KEEP_ALIVE = 15  # seconds that a connection may wait for its next request
HEADER_SECONDS = 10  # for a whole header, from its first byte
BODY_SECONDS = 60  # for a whole request, from its first byte
ROOM_SECONDS = 2  # in which a request waits for memory for its body, unread, before it is refused
SENDING_SECONDS = 30  # in which a client has to take its answer
LINGER = 5  # seconds in which a client may send the rest of a refused body
SLOW_BODY = 50_000  # bytes per second below which a body makes room for others
SLOW_AFTER = 1  # seconds in which a body is not judged by its speed
COME_AGAIN = "503"  # a status that asks for RETRY_SECONDS of patience
# Of the WSGI environment: the body as a memoryview, and a function for who is about to wait
BODY_KEY, WAITING_KEY = "deployment.body", "deployment.waiting"
FIRST_BYTES = 4096  # at most, in the first turn of a new connection
NO_ROOM = "too many bytes of images wait; try again in a second"
TOO_SLOW = "the request took longer than the {:g} seconds allowed"


class _Task(WSGITask):
    def get_environment(self):
        environment = super().get_environment()
        environment[WAITING_KEY] = partial(self.channel.server.let_next_begin, self.request)
        if self.request.has_body:
            environment[BODY_KEY] = self.request.body_rcv.getbuf().view()
        return environment

    def build_response_header(self):
        self.channel.note_answer(self.status)
        if self.channel.server.ending:
            self.set_close_on_finish()
        return super().build_response_header()


class _Refusal(ErrorTask):
    """The answer to a request that never reaches the application."""

    def execute(self):
        request, server = self.request, self.channel.server
        refusal, status = server.explain(request.error)
        request_id = request.header("X-Request-ID")
        if not REQUEST_ID.fullmatch(request_id):
            request_id = secrets.token_hex(8)
        path = getattr(request, "path", "")
        body = error_body(refusal.code, refusal.message[:500], request_id, path)
        self.status = status
        self.response_headers.extend(
            [("Content-Type", JSON), ("X-Request-ID", request_id), *HEADERS.items()]
        )
        self.response_headers.extend(dict(refusal.headers).items())
        self.response_headers.extend(server.cors_headers(request).items())
        self.channel.note_answer(status)
        self.channel.refused = True
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)
        server.count_refusal(path, int(status.split()[0]))


class Channel(HTTPChannel):
    """A connection, and the request on it that is under way.

    Attributes:
        waiting_since: float, time since which the client may send a request or take an answer.
        unanswered_bytes: int, what has come since then.
        answer_count: int, the answers that the client has got.
        answer_due: float, time at which a refusal is sent that is put off; 0 where none is.
    """

    task_class = _Task
    error_task_class = _Refusal
    parser_class = Parser
    refused = False  # a request was refused whose rest may still come
    linger_until = None  # time until which that rest is read and thrown away
    held = b""  # what came behind the request or the header that is under way
    room_deadline = None  # time until which its request waits for memory, `body_size` bytes
    body_size, body_since = 0, 0.0  # bytes; time at which it got them
    unanswered_bytes = answer_count = 0
    answer_due = 0.0
    paused_until = 0.0  # time until which the client was asked to wait

    def __init__(self, *given, **named):
        super().__init__(*given, **named)
        self.waiting_since = time.monotonic()

    @property
    def is_receiving_body(self):
        """Whether the rest of a body is awaited, bool."""
        request = self.request
        return request is not None and request.is_judged

    @property
    def is_idle(self):
        """Whether it may be closed for another: nothing of it is computed or answered."""
        is_answered = self.requests and not self.answer_due or self.total_outbufs_len
        return not (is_answered or self.is_receiving_body or self.room_deadline)

    # Closing at once would reset the connection, and the client, still sending, would never read
    # why it was refused.
    def handle_close(self):
        """Closes the connection; after a refusal only for this side's sending."""
        if self.refused and self.connected and self.linger_until is None:
            self.linger_until = time.monotonic() + LINGER
            self.will_close = self.close_when_flushed = False
            self.held, self.unanswered_bytes = b"", 1
            try:
                self.socket.shutdown(socket.SHUT_WR)
                return
            except OSError:
                pass
        if self.request is not None:
            self.request.close()
            self.request = None
        self.held, self.room_deadline = b"", None
        super().handle_close()

    def handle_error(self):
        """Closes the connection after an exception, which only this project's faults cause."""
        _, error_type, error, place = self.compact_traceback()
        log_rarely("connection", f"a connection failed: {error_type.__name__}: {error} {place}")
        self.refused = False
        self.handle_close()

    def waits_for(self):
        """What the loop should do as soon as it can, at every turn of it.

        Returns:
            int, the sum of `READING` and `WRITING`, or one of them, or 0.
        """
        is_writing = self.total_outbufs_len or self.will_close or self.close_when_flushed
        if self.linger_until is not None:
            return READING + WRITING if is_writing else READING
        if is_writing:
            return WRITING
        is_busy = self.requests or self.held or self.room_deadline or self._is_paused()
        return 0 if is_busy else READING

    def readable(self):
        """Whether the loop should read from it."""
        return bool(self.waits_for() & READING)

    def _is_paused(self):
        is_asked_to_wait = self.paused_until > 0 and time.monotonic() < self.paused_until
        return is_asked_to_wait and not self.server.ending

    def recv(self, buffer_size):
        """Reads: of a new connection a header and little more, so that all are heard soon.

        Args:
            buffer_size: int, maximum number of bytes.
        """
        is_new = not (self.answer_count or self.unanswered_bytes)
        return super().recv(min(buffer_size, FIRST_BYTES) if is_new else buffer_size)

    def note_answer(self, status):
        """Takes note that an answer is being sent.

        A client that is asked to come again later, and does not wait, is made to: a flood of
        requests that are all refused would keep others from being heard.

        Args:
            status: str such as "200 OK".
        """
        self.waiting_since, self.unanswered_bytes = time.monotonic(), 0
        self.answer_count += 1
        is_early = status.startswith(COME_AGAIN)
        self.paused_until = self.waiting_since + RETRY_SECONDS if is_early else 0.0

    def received(self, data):
        """Takes in bytes up to the end of a header or of a request; the rest waits in `held`.

        Args:
            data: bytes; b"" goes on with what was held back.
        """
        self.unanswered_bytes += len(data)
        if self.linger_until is not None:
            return True
        with self.requests_lock:
            if self.will_close or self.close_when_flushed:
                return False
            data, self.held = self.held + data, b""
            while data and not (self.requests or self.room_deadline):
                was_judged = self.is_receiving_body
                data = self._take_in(data)
                if self.is_receiving_body and not was_judged and self.request.chunked:
                    break  # chunks take time: they wait until all that begins was looked at
            self.held = data
        return True

    @property
    def can_resume(self):
        """Whether what was held back can be looked at now, bool."""
        if not self.held or self.room_deadline:
            return False
        is_busy = self.requests or self.total_outbufs_len or self.will_close or self._is_paused()
        return not (is_busy or self.close_when_flushed)

    def resume(self):
        """Goes on with what was held back."""
        self.last_activity = time.time()
        if self.can_resume:
            self.received(b"")

    def service(self):
        """Has the first request answered, in a thread or in the loop."""
        request = self.requests[0]
        try:
            super().service()
        finally:
            self.server.let_next_begin(request)

    def _take_in(self, data):
        """Gives bytes to the request under way; returns those behind it."""
        if self.request is None:
            data = data.lstrip(b"\r\n")  # RFC 9112, section 2.2
            if not data:
                return data
            self.request = self.parser_class(self.adj)
            self.request.started_at = time.monotonic()
        request = self.request
        data = data[request.received(data) :]
        if request.empty:
            request.empty, request.error = False, Refused("bad_request", "the request is blank")
        if request.headers_finished and not request.is_judged:
            self._judge(request)
        if request.completed:
            self.sent_continue = False
            self.requests.append(request)
            self.request = None
            self.server.add_task(self)
        return data

    def _judge(self, request):
        """Decides about a body when the headers are there, before any of it is taken in."""
        if request.error or not request.has_body:
            request.expect_continue = False
        else:
            try:
                body = self.server.admit(self, request)
            except Refused as refusal:
                request.error, request.completed = refusal, True
                request.body_rcv = None
            else:
                if body is None:
                    self.room_deadline = time.monotonic() + ROOM_SECONDS
                else:
                    self.begin_body(body)
                return
        request.is_judged = True

    def begin_body(self, body):
        """Lets the body of the request under way come.

        Args:
            body: `body_memory.Body`, its place in memory.
        """
        self.room_deadline, self.body_since = None, time.monotonic()
        # Not before: to admit it, the server may end the bodies of others that come too slowly.
        self.request.is_judged = True
        self.request.receive_into(body)
        if self.request.expect_continue:
            self.send_continue()

    def send_continue(self):
        """Has the client send the body; where it has gone meanwhile, the connection is closed."""
        try:
            super().send_continue()
        except AttributeError:  # of the request, which is None since the connection was closed
            if self.request is not None:
                raise

    def refuse(self, refusal):
        """Answers the request whose rest has not come.

        Args:
            refusal: `Refused`.
        """
        with self.requests_lock:
            request, self.request = self.request, None
            request.error, request.completed, self.held = refusal, True, b""
            self.room_deadline = None
            request.close()
            request.body_rcv = None
            self.requests.append(request)
            self.server.add_task(self)

    def deadline(self):
        """The time at which the client has had its time, and what to tell it.

        Returns:
            (float on the clock of `time.monotonic`, or None while it waits for the server;
            float, the seconds that it had).
        """
        if self.linger_until is not None:
            return self.linger_until, LINGER
        if self.requests:
            return None, 0
        if self.room_deadline:
            return self.room_deadline, ROOM_SECONDS
        if self.total_outbufs_len or self.close_when_flushed:
            return self.waiting_since + SENDING_SECONDS, SENDING_SECONDS
        if self.request is None:
            return self.waiting_since + KEEP_ALIVE, KEEP_ALIVE
        seconds = BODY_SECONDS if self.is_receiving_body else HEADER_SECONDS
        return self.request.started_at + seconds, seconds

    def keep_deadline(self, now):
        """Ends the connection, or refuses its request, where the client has had its time.

        Args:
            now: float, time on the clock of `time.monotonic`.
        """
        ends_at, seconds = self.deadline()
        if ends_at is None or now < ends_at:
            return
        if self.room_deadline:
            self.refuse(Refused("queue_full", NO_ROOM, RETRY_SOON))
        elif self.request is not None and self.linger_until is None:
            self.refuse(Refused("too_slow", TOO_SLOW.format(seconds)))
        else:
            self.refused = False
            self.handle_close()

    def is_slow(self, now):
        """Whether its body comes so slowly that it has to make room for others.

        Args:
            now: float, time on the clock of `time.monotonic`.
        """
        if not self.is_receiving_body:
            return False
        age = now - self.body_since
        return age > SLOW_AFTER and len(self.request.body_rcv) < age * SLOW_BODY
