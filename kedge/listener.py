"""The address a service listens on, bound before anything is opened."""

from __future__ import annotations

import socket

from kedge.errors import UsageError


def bound(host: str, port: int) -> socket.socket:
    """A socket that is bound and does not listen yet; port 0 takes a free one.

    Raises:
        UsageError: the port is none, another process has it, or the host is not this machine's.
    """
    if not 0 <= port <= 65535:
        raise UsageError(f"--port {port}: a port is 0 to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as exc:
        raise UsageError(f"port {port} on {host}: {exc.strerror}; give another with --port or --host") from exc
    return listener
