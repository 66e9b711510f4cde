"""Opening a socket of this machine for a server, with errors in the words of its options."""

import errno
import socket

from common.errors import InputError


def listen(host, port, option="--port"):
    """Opens a socket that listens.

    Args:
        host: str, an address of this machine, or a name of one.
        port: int, 0 to 65535; 0 takes a free one.
        option: str, where the port comes from, for errors.

    Raises:
        InputError: the address does not belong to this machine, or the port is in use.
    """
    try:
        family, _, _, _, socket_address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(socket_address[:2], family=family, backlog=1024)
    except (OSError, UnicodeError) as error:
        error_number = getattr(error, "errno", None)
        if error_number == errno.EADDRINUSE:
            message = f"{option}: {port} is in use on {host}; {option} 0 takes a free one"
        elif error_number == errno.EACCES:
            message = (
                f"{option}: {port} may not be opened by this user; take a port from 1024 to 65535"
            )
        else:
            reason = getattr(error, "strerror", None) or "not a valid host name"
            message = f"--host: {host} is not an address to listen on: {reason}"
        raise InputError(message) from None


def listening_url(listener):
    """The URL at which the server can be reached, str.

    Args:
        listener: a socket that listens.
    """
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
