"""A stand-in for a registry that has no image, for containerd: its answer depends on the first part of the image's
name, as in 127.0.0.1:5000/private/model:1.

Only the standard library is used, so that it runs in a pod under plain python3: python3 registry.py PORT
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ANSWERS = {
    "absent": (404, "MANIFEST_UNKNOWN"),
    "private": (401, "UNAUTHORIZED"),
    "denied": (403, "DENIED"),
    "busy": (429, "TOOMANYREQUESTS"),
    "broken": (503, "UNAVAILABLE"),
}
"""Status and code of the OCI distribution specification (https://github.com/opencontainers/distribution-spec)."""


class RegistryHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # containerd tries TLS first, and again without it only where that is answered by HTTP with a head
    default_request_version = "HTTP/1.1"

    def do_GET(self) -> None:
        repository = self.path.removeprefix("/v2/").partition("/")[0]
        status, code = ANSWERS.get(repository, (200, ""))
        errors = [{"code": code, "message": code.lower().replace("_", " ")}] if code else []
        body = json.dumps({"errors": errors}).encode()
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="registry"')
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET


if __name__ == "__main__":
    ThreadingHTTPServer(("", int(sys.argv[1])), RegistryHandler).serve_forever()
