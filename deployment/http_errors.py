"""What a request is told that is refused, by the application or before it gets there."""

import json

STATUS = {
    "bad_request": 400,
    "unauthorized": 401,
    "not_found": 404,
    "method_not_allowed": 405,
    "too_large": 413,
    "undecodable": 422,
    "internal": 500,
    "queue_full": 503,
    "not_ready": 503,
    "overdue": 504,
}
HEADERS = {  # of every answer
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'",
    "Cache-Control": "no-store",
}
JSON = "application/json"


class Refused(Exception):
    """A request that is answered with an error; `code` is a key of `STATUS`."""

    def __init__(self, code, message, headers=()):
        super().__init__(message)
        self.code, self.message, self.headers = code, message, headers


def error_body(code, message, request_id):
    """An error as JSON, in bytes."""
    answer = {
        "success": False,
        "error": {"code": code, "message": message},
        "request_id": request_id,
    }
    return json.dumps(answer).encode()


def too_large(max_bytes):
    """What is said of a larger body."""
    return f"the body is larger than the {max_bytes:,} bytes allowed"
