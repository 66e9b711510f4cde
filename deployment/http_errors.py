"""Error answers of the server: their codes, statuses, headers and JSON body."""

import json

STATUS = {
    "bad_request": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "too_slow": 408,
    "too_large": 413,
    "undecodable": 422,
    "internal": 500,
    "queue_full": 503,
    "not_ready": 503,
    "overdue": 504,
}
CODE_OF_STATUS = {status: code for code, status in STATUS.items()}
HEADERS = {  # sent with every answer
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'",
    "Cache-Control": "no-store",
}
JSON = "application/json"
INTERNAL = "the server failed to answer this request; its log says why"
PROTOCOL = "/v2"  # where the paths of the Open Inference Protocol begin
RETRY_SECONDS = 1
RETRY_SOON = {"Retry-After": str(RETRY_SECONDS)}


class Refused(Exception):
    """A request that is answered with an error.

    Args:
        code: str, a key of `STATUS`, for programs.
        message: str, what was wrong, for people.
        headers: further headers of the answer, a dict or (name, value) pairs.
    """

    def __init__(self, code, message, headers=()):
        super().__init__(message)
        self.code, self.message, self.headers = code, message, headers


def error_body(code, message, request_id, path=""):
    """The JSON body of an error answer, bytes.

    Args:
        code: str, a key of `STATUS`.
        message: str, what was wrong, for people.
        request_id: str, which also appears in the log.
        path: str, the request's; the Open Inference Protocol has errors of its own form.
    """
    if path == PROTOCOL or path.startswith(PROTOCOL + "/"):
        return json.dumps({"error": message}).encode()
    answer = {
        "success": False,
        "error": {"code": code, "message": message},
        "request_id": request_id,
    }
    return json.dumps(answer).encode()


def too_large(max_bytes):
    """The error message for a body that is too large, str.

    Args:
        max_bytes: int, maximum size of a body.
    """
    return f"the body is larger than the {max_bytes:,} bytes allowed"
