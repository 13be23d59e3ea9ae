"""Reads processor time and memory of processes, and requests from the audit log and the metrics."""

import json
import os
import re
import urllib.request
from collections import Counter
from pathlib import Path

Requests = Counter[tuple[str, str]]
"""How many requests had a verb and a resource, such as ("patch", "inferenceendpoints/status")."""

OPERATOR = "system:serviceaccount:forebay-system:forebay"
WRITES = {"create", "update", "patch", "delete"}
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


def read_audit(log: Path, begin: int = 0) -> tuple[Requests, int]:
    """The requests of the operator since a place in the audit log, and the place where the log ends now."""
    found: Requests = Counter()
    with log.open("rb") as file:
        file.seek(begin)
        for line in file:
            if not line.endswith(b"\n"):
                break
            begin += len(line)
            event = json.loads(line)
            about = event.get("objectRef") or {}
            if event["user"]["username"] == OPERATOR and "resource" in about:
                found[event["verb"], "/".join(filter(None, (about["resource"], about.get("subresource"))))] += 1
    return found, begin


def writes(requests: Requests) -> Requests:
    """The writes among the requests. The Lease does not count, because its writes depend only on time."""
    return Counter({key: count for key, count in requests.items() if key[0] in WRITES and key[1] != "leases"})


def read_metrics(port: int) -> str:
    """The metrics that an operator on this machine shows."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        return str(answer.read().decode())


def counted_writes(metrics: str) -> Requests:
    """The same as `writes`, as the operator counts them itself."""
    found: Requests = Counter()
    for verb, kind, count in re.findall(
        r'^forebay_api_requests_total\{code="\d+",kind="([^"]+)",verb="([A-Z]+)"\} ([\d.e+]+)', metrics, re.M
    ):
        found[_VERBS.get(kind, "get"), verb] += int(float(count))
    return writes(found)


def processor_seconds(pid: int) -> float:
    """Processor time that a process has used, with the time of its system calls."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def machine_seconds() -> float:
    """Processor time that all processes of this machine have used."""
    times = Path("/proc/stat").read_text().partition("\n")[0].split()[1:]
    idle = int(times[3]) + int(times[4])
    return (sum(map(int, times[:8])) - idle) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int, peak: bool = False) -> float:
    """Resident memory of a process now, or the most that it ever had, in MB."""
    name = "VmHWM" if peak else "VmRSS"
    found = re.search(rf"^{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.M)
    assert found, f"process {pid} has no {name}"
    return int(found[1]) * 1024 / 1e6


def children() -> dict[str, int]:
    """The processes that this one has started and that run, by name."""
    me = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {Path(f"/proc/{pid}/comm").read_text().strip(): int(pid) for pid in me}
