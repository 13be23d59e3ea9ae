"""Try to connect to places, each a HOST:PORT: python connect.py PLACE... Prints the JSON of whether each took the
connection within three seconds."""

import json
import socket
import sys


def connects(place: str) -> bool:
    host, _, port = place.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=3).close()
    except OSError:
        return False
    return True


print(json.dumps([connects(place) for place in sys.argv[1:]]))
