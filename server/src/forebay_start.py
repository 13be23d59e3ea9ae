"""Starts the server from the folder of this file, in any image that has vLLM: `python3 FOLDER/forebay_start.py`.

The overlay image has this file beside the server's packages and their metadata. The pod's command names it. This file
also runs on old versions of Python, so that it can report that the image's Python is too old.
"""

import json
import os
import sys

FOLDER = os.path.dirname(os.path.abspath(__file__))

OLDEST_PYTHON = (3, 11)
"""The same version as requires-python in server/pyproject.toml."""

EXIT_CONFIGURATION = 78
"""The same value as in forebay_protocol.pod. This file can import it only after it has checked the version of
Python."""


def put_first_on_path(folder: str) -> None:
    """Let this process and its children find the folder's packages before those of the image.

    If the image has a server too, the entry points of this folder replace the entry points of that server.
    """
    sys.path[:] = [folder, *(path for path in sys.path if path != folder)]
    inherited = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != folder]
    os.environ["PYTHONPATH"] = os.pathsep.join([folder, *inherited])


def refuse_old_python() -> None:
    """End the process with a line in the termination log if the image's Python is too old."""
    if sys.version_info >= OLDEST_PYTHON:
        return
    found = "{}.{}".format(*sys.version_info)
    needed = "{}.{}".format(*OLDEST_PYTHON)
    failure = {
        "reason": "PythonTooOld",
        "message": f"The image has Python {found}, and the server needs {needed} or later.",
        "remedy": f"Set spec.image to an image of vLLM with Python {needed} or later.",
    }
    line = json.dumps(failure)
    sys.stderr.write(line + "\n")
    try:
        with open(os.environ.get("FOREBAY_TERMINATION_LOG") or "/dev/termination-log", "w") as log:
            log.write(line + "\n")
    except OSError as error:
        sys.stderr.write(f"The termination log could not be written: {error}\n")
    sys.exit(EXIT_CONFIGURATION)


if __name__ == "__main__":  # processes that vLLM spawns import this file again, under another name
    refuse_old_python()
    put_first_on_path(FOLDER)
    from forebay_server.__main__ import main

    main()
