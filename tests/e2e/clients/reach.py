"""Connect to the host of each URL until it accepts the connection, for a minute: python reach.py URL..."""

import socket
import sys
import time
from urllib.parse import urlsplit

for url in sys.argv[1:]:
    host = urlsplit(url)
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection((host.hostname, host.port or 80), timeout=5).close()
            break
        except OSError as error:
            if time.monotonic() > deadline:
                sys.exit(f"{url}: {error}")
            time.sleep(0.2)
