"""The figures of a round as tables."""

from collections.abc import Iterable, Sequence

from bench.scale.measures import Requests, writes
from bench.scale.rounds import Round


def report(found: Round) -> str:
    """All tables of one size, in Markdown."""
    count = found.endpoints
    phases = {
        "bare client: applied to available": found.bare,
        "applied to Ready": found.apply,
        "then, until nothing is written": found.trailing,
        "every spec changed to Ready": found.update,
        "then, until nothing is written any more": found.settle,
        "idle": found.idle,
        "restart to the end of the first pass": found.restart,
    }
    rows = [
        [name, *(f"{number:.1f}" for number in (each.seconds, each.operator, each.plane, each.rest)),
         str(writes(each.requests).total())]
        for name, each in phases.items()
    ]  # fmt: skip
    asked = [each.requests for each in (found.apply, found.trailing, found.update, found.settle)]
    kinds = sorted({key for each in asked for key in each if key[1] != "leases"})
    requests = [[f"{verb} {kind}", *(f"{each[verb, kind] / count:.2f}" for each in asked)] for verb, kind in kinds]
    idle, peak = found.idle, found.memory[2]
    facts = [
        f"over the bare client: {found.apply.seconds / found.bare.seconds - 1:+.0%}",
        f"idle: {idle.operator / idle.seconds:.2%} of a core; requests: {_list(idle.requests)}",
        f"restart: {_list(found.restart.requests + found.after_restart.requests)}",
        f"memory: {found.memory[0]:.0f} MB idle, {found.memory[1]:.0f} MB after the restart, {peak:.0f} MB at most",
    ]
    head = f"### {count} endpoints\n\n"
    times = _table(["phase", "seconds", "CPU s: operator", "control plane", "all else", "writes"], rows)
    by_kind = _table(["requests of an endpoint", "applied", "then", "changed", "then"], requests)
    return head + times + "\n" + by_kind + "\n" + "\n".join(f"- {fact}" for fact in facts) + "\n"


def _list(requests: Requests) -> str:
    return ", ".join(f"{count} {verb} {kind}" for (verb, kind), count in sorted(requests.items())) or "none"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
