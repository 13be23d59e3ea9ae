"""An OCI runtime for dockerd: runc, asked only for capabilities that a process on this machine may have.

Docker 20.10 asks for every capability it knows of for `--privileged`, and runc refuses what the bounding set lacks.
`cluster.docker` installs a copy of this file as the engine's default runtime, only where a capability is missing.
It imports little: it runs each time a container starts or a probe executes.
"""

import json
import os
import sys
from typing import Any

# Names by bit number, from include/uapi/linux/capability.h.
NAMES = """
CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT
SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE
AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ
PERFMON BPF CHECKPOINT_RESTORE
"""


def bounding(status: str) -> set[str]:
    """The capabilities in the bounding set that /proc/<pid>/status shows, as "CAP_…"."""
    mask = int(next(line for line in status.splitlines() if line.startswith("CapBnd:")).split()[1], 16)
    return {"CAP_" + name for bit, name in enumerate(NAMES.split()) if mask >> bit & 1}


def missing(status: str, last: int) -> set[str]:
    """The capabilities that the kernel knows (`last`: its highest bit) and the bounding set lacks."""
    return {"CAP_" + name for name in NAMES.split()[: last + 1]} - bounding(status)


def trim(process: dict[str, Any], have: set[str]) -> None:
    """Take out of an OCI process every capability that is not in `have`."""
    sets = process.get("capabilities")
    if sets:
        process["capabilities"] = {kind: [name for name in names or () if name in have] for kind, names in sets.items()}


def option(args: list[str], *names: str) -> str | None:
    """The value of a command-line option, given as "--name value" or "--name=value"."""
    for place, arg in enumerate(args):
        name, equals, value = arg.partition("=")
        if name in names:
            return value if equals else args[place + 1]
    return None


def asked(args: list[str]) -> str | None:
    """The JSON file that says what a runc command shall start, if it starts something."""
    if "exec" in args:
        return option(args, "--process", "-p")
    if "create" in args or "run" in args:
        return os.path.join(option(args, "--bundle", "-b") or ".", "config.json")
    return None


def main(args: list[str]) -> None:
    """Rewrite what is asked for, then become runc."""
    path = asked(args)
    if path:
        with open(path) as file:
            document = json.load(file)
        with open("/proc/self/status") as file:
            trim(document.get("process", document), bounding(file.read()))
        with open(path, "w") as file:
            json.dump(document, file)
    os.execvp("runc", ["runc", *args])


if __name__ == "__main__":
    main(sys.argv[1:])
