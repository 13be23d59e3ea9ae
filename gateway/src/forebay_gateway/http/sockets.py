"""Options of the sockets to clients and pods.

Client connections, upstream connections and the job executor set them.
"""

import socket

KEEPALIVE = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
"""Idle seconds, interval in seconds, and number of probes until a silent machine counts as gone."""

SOCKET_BUFFER = 64 << 10
"""Bytes of an answer that the kernel buffers on each side of the gateway (it uses twice as many). By default it would
buffer megabytes for each slow client."""


def keep_alive(connection: socket.socket) -> None:
    """Let the kernel probe whether the peer is still alive (TCP keepalive)."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE:
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
