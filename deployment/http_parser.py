"""Requests while they arrive: waitress's parser, with a bound on everything that it keeps.

Waitress 3.0.2 keeps a chunk's line and the trailer whole, however long they are, and takes three
requests for crashes of its own. `tests/test_http_parser.py` fails where another version is
installed: then read its parser, its receiver and its channel before the number is changed.
"""

import re

from waitress.parser import HTTPRequestParser, ParsingError, TransferEncodingNotImplemented
from waitress.rfc7230 import CHUNK_EXT_RE, HEADER_FIELD_RE
from waitress.utilities import BadRequest, RequestEntityTooLarge

from deployment.log import log_rarely

WAITRESS = "3.0.2"  # the version that this file and `http_channel` were written for
MAX_HEADER = 1 << 16  # bytes of the request line and all headers
MAX_HEADER_LINES = 100  # each takes time to parse; browsers send 20
MAX_CHUNK_LINE = 1 << 10  # bytes of a chunk's size and extensions
MAX_TRAILER = 1 << 16  # bytes of the headers behind the last chunk
FREE_CHUNKS, SMALLEST_CHUNK = 1000, 64  # so many chunks of any size; all others have on average
_CHUNK_SIZE = re.compile(rb"[0-9a-fA-F]{1,16}")


class Parser(HTTPRequestParser):
    """A request; the channel decides about its body when the headers are complete.

    Attributes:
        started_at: float, time of its first byte on the clock of `time.monotonic`.
        is_judged: bool, whether the channel has decided.
        is_beginning: bool, whether it keeps others from beginning (`flood_control.Gate`).
    """

    started_at = 0.0
    is_judged = is_beginning = False

    def parse_header(self, header_plus):
        """Reads the request line and the headers.

        Args:
            header_plus: bytes.

        Raises:
            ParsingError, TransferEncodingNotImplemented: they are not HTTP, or of a kind that is
                not read.
        """
        if header_plus.count(b"\n") > MAX_HEADER_LINES:
            raise ParsingError(f"the header has more than {MAX_HEADER_LINES} lines")
        try:
            super().parse_header(header_plus)
        except (ParsingError, TransferEncodingNotImplemented):
            raise
        except Exception as error:  # ValueError of "GET http://[", of a number of 5,000 digits
            log_rarely("parser", f"a request is not HTTP: {type(error).__name__}: {error}")
            raise ParsingError("the request line or a header is not HTTP") from None
        if "," in self.header("Host"):  # which is how waitress joins several
            raise ParsingError("the request has more than one Host")

    def header(self, name):
        """str, the value of a header; "" where the request has none.

        Args:
            name: str, such as "Content-Type".
        """
        return self.headers.get(name.upper().replace("-", "_"), "")

    @property
    def has_body(self):
        """Whether bytes follow the headers."""
        return self.body_rcv is not None

    def receive_into(self, body):
        """Lets the body go to its place.

        Args:
            body: `body_memory.Body`, as large as Content-Length says or, of chunks, as allowed.
        """
        self.body_rcv = ChunkedReceiver(body) if self.chunked else SizedReceiver(body)


class SizedReceiver:
    """Takes in a body whose length is known.

    Args:
        body: `body_memory.Body` of that capacity.
    """

    error = None

    def __init__(self, body):
        self._body = body

    def __len__(self):
        return len(self._body)

    @property
    def completed(self):
        """Whether all has arrived."""
        return len(self._body) == self._body.capacity

    def received(self, data):
        """int, how many of the bytes belong to the body.

        Args:
            data: bytes.
        """
        piece = memoryview(data)[: self._body.capacity - len(self._body)]
        self._body.append(piece)
        return len(piece)

    def getbuf(self):
        """The `Body`."""
        return self._body

    def getfile(self):
        """The body as a file."""
        return self._body.getfile()


class ChunkedReceiver(SizedReceiver):
    """Takes in a body that comes in chunks (RFC 9112, section 7.1).

    Args:
        body: `body_memory.Body` of the largest capacity that is allowed.
    """

    completed = False

    def __init__(self, body):
        super().__init__(body)
        self._line, self._chunk_count = b"", 0
        self._trailer_lines = self._trailer_bytes = 0
        self._remaining = 0  # bytes of the chunk
        self._read_line = self._read_size  # what the next line is

    def received(self, data):
        """int, how many of the bytes belong to the body; sets `error` where they are no chunks.

        Args:
            data: bytes.
        """
        position, view = 0, memoryview(data)
        while position < len(data) and not (self.completed or self.error):
            if self._remaining:
                piece = view[position : position + self._remaining]
                self._body.append(piece)
                position += len(piece)
                self._remaining -= len(piece)
            else:
                position = self._take_line(data, position)
        return position

    def _take_line(self, data, position):
        """Takes in a line or the part of it that is there; returns the position behind it."""
        line_end = data.find(b"\n", position)
        stop = len(data) if line_end < 0 else line_end + 1
        longest = MAX_TRAILER if self._read_line == self._read_trailer else MAX_CHUNK_LINE
        if len(self._line) + stop - position > longest:
            self.error = BadRequest(f"a line of the chunks exceeds {longest:,} bytes")
            return stop
        self._line += data[position:stop]
        if line_end >= 0:
            line, self._line = self._line, b""
            if line.endswith(b"\r\n"):
                self._read_line(line[:-2])
            else:
                self.error = BadRequest("a line of the chunks ends without CR")
        return stop

    def _read_size(self, line):
        size_text, semicolon, extensions = line.partition(b";")
        if not _CHUNK_SIZE.fullmatch(size_text):
            self.error = BadRequest("the size of a chunk is not hexadecimal")
            return
        if semicolon and not CHUNK_EXT_RE.fullmatch(b";" + extensions):
            self.error = BadRequest("the extension of a chunk is not HTTP")
            return
        self._remaining = int(size_text, 16)
        self._chunk_count += 1
        if not self._remaining:
            self._read_line = self._read_trailer
        elif self._remaining > self._body.capacity - len(self._body):
            self.error = RequestEntityTooLarge("the chunks are too large")
        elif self._chunk_count > FREE_CHUNKS + len(self._body) // SMALLEST_CHUNK:
            self.error = BadRequest("the chunks are too small")
        else:
            self._read_line = self._read_end

    def _read_end(self, line):
        if line:
            self.error = BadRequest("a chunk is longer than its size says")
        self._read_line = self._read_size

    def _read_trailer(self, line):
        self._trailer_lines += 1
        self._trailer_bytes += len(line)
        if not line:
            self._body.finish()
            self.completed = True
        elif self._trailer_lines > MAX_HEADER_LINES or self._trailer_bytes > MAX_TRAILER:
            self.error = BadRequest("the headers behind the last chunk are too long")
        elif not HEADER_FIELD_RE.fullmatch(line):
            self.error = BadRequest("a header behind the last chunk is not HTTP")
