"""Who may send requests: those with the token, and no web pages of others."""

import hmac
import re
from typing import NamedTuple

from common.web_origins import host_problem, origin_problem
from deployment.http_errors import Refused

REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
CORS_SECONDS = 600  # for which a browser remembers what a page may send


class Access(NamedTuple):
    """What requests have to bring.

    Attributes:
        token: bytes that requests to protected routes have to bring, or None.
        hosts: tuple of str, the names in the header Host that are answered; None is all.
        origins: tuple of str, the origins of other pages that may send requests.

    Example:
        >>> headers = {"Authorization": "Bearer 0123456789abcdef"}
        >>> Access(b"0123456789abcdef").check_token(lambda name: headers.get(name, ""))
    """

    token: bytes | None = None
    hosts: tuple | None = None
    origins: tuple = ()

    def check(self, header):
        """Refuses requests to other hosts and of other pages.

        Args:
            header: function from the name of a header to its str, "" where there is none.

        Raises:
            Refused: with the code "forbidden".
        """
        problem = self.hosts and host_problem(header("Host"), self.hosts)
        if problem:
            raise Refused("forbidden", f"{problem}; --allow_host NAME allows another")
        problem = origin_problem(header, self.origins)
        if problem:
            raise Refused("forbidden", f"{problem}; --cors ORIGIN allows a page's")

    def check_token(self, header):
        """Refuses requests without the token.

        Args:
            header: function from the name of a header to its str, "" where there is none.

        Raises:
            Refused: with the code "unauthorized".
        """
        scheme, _, token = header("Authorization").partition(" ")
        token = token.strip().encode("latin-1", "replace")
        if not (hmac.compare_digest(token, self.token) and scheme.lower() == "bearer"):
            raise Refused(
                "unauthorized",
                "the server's token is missing or wrong; send it in the header "
                "'Authorization: Bearer TOKEN'",
                {"WWW-Authenticate": "Bearer"},
            )

    def cors_headers(self, header):
        """The headers by which a browser lets an allowed page of another origin read an answer.

        Args:
            header: function from the name of a header to its str, "" where there is none.

        Returns:
            dict of str, empty for all other requests.
        """
        origin = header("Origin")
        if not origin or origin.lower() not in self.origins:
            return {}
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Headers": "Authorization, Content-Type, X-Request-ID",
            "Access-Control-Allow-Methods": "GET, POST",
            "Access-Control-Expose-Headers": "Retry-After, X-Request-ID",
            "Access-Control-Max-Age": str(CORS_SECONDS),
            "Vary": "Origin",
        }
