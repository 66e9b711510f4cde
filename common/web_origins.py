"""Which web pages may send requests to a server of this project through a person's browser.

A browser lets any page send simple requests to any address, loopback included, and a page whose
name leads to 127.0.0.1 (DNS rebinding) reads the answers as well. Browsers say in `Host`, `Origin`
and `Sec-Fetch-Site` whose page it is; no page can change these headers.
"""

from urllib.parse import urlsplit

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
OWN_SITES = ("", "same-origin", "none")  # of Sec-Fetch-Site; none: typed, or from a bookmark


def host_problem(host, allowed_names=LOOPBACK_NAMES):
    """Why a request to a host is not answered.

    Args:
        host: str, the header Host; "" where a program sends none.
        allowed_names: collection of str in lower case, without ports.

    Returns:
        str for people, or None where the host is allowed.

    Example:
        >>> host_problem("localhost:5001") is None
        True
        >>> host_problem("127.0.0.1.example:5001")
        "the host '127.0.0.1.example' is not one of localhost, 127.0.0.1, [::1]"
    """
    name, _, port = host.lower().rpartition(":")
    if not (name and port.isdecimal()):
        name = host.lower()
    if not name or name in allowed_names:
        return None
    return f"the host {name[:100]!r} is not one of {', '.join(allowed_names)}"


def origin_problem(header, allowed_origins=()):
    """Why a request of another page is not answered.

    Args:
        header: function from the name of a header to its str, "" where there is none.
        allowed_origins: collection of str such as "https://example.org", whose pages may send
            requests.

    Returns:
        str for people, or None where it is no request of another page.

    Example:
        >>> headers = {"Host": "localhost:5001", "Origin": "https://example.org"}
        >>> origin_problem(lambda name: headers.get(name, ""))
        "requests of the page 'https://example.org' are refused"
    """
    origin, site = header("Origin").lower(), header("Sec-Fetch-Site").lower()
    # The browser's own word counts before a comparison with Host, which proxies change.
    if site == "same-origin" or (origin and origin in allowed_origins):
        return None
    if origin and (origin == "null" or _host_of(origin) != header("Host").lower()):
        return f"requests of the page {origin[:100]!r} are refused"
    # A link on another page only opens this one, whose answer that page cannot read.
    if site not in OWN_SITES and header("Sec-Fetch-Mode").lower() != "navigate":
        return "requests of other pages are refused"
    return None


def _host_of(origin):
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None
