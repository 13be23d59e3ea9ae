"""Options of the sockets to clients and pods."""

import socket

KEEPALIVE = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
"""Seconds, seconds and times after which a machine that went away without a word counts as gone."""

SOCKET_BUFFER = 64 << 10
"""Bytes of an answer that the kernel keeps on each side of the gateway (it takes twice as many). By itself it would
take megabytes for each client that reads slowly."""


def keep_alive(connection: socket.socket) -> None:
    """Have the kernel look whether the other end still is there."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE:
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
