"""The server's own metrics in Prometheus' text format. The ops port sends them before vLLM's metrics."""

from collections.abc import Iterable

from forebay_server.lifecycle.startup import Step
from forebay_server.lifecycle.state import ServerState

LabelledValue = tuple[dict[str, str], float]


def metrics(state: ServerState) -> bytes:
    """Render the numbers of the startup report, and the state of the server."""
    step = state.step
    seconds = state.startup.seconds()
    families = [
        _family("forebay_startup_step", "1 for the current step.", [({"step": name}, name is step) for name in Step]),
        _family(
            "forebay_startup_step_seconds",
            "Seconds spent in each step of the start.",
            [({"step": name}, spent) for name, spent in seconds.items()],
        ),
        _family("forebay_ready", "1 while the server accepts requests.", [({}, not state.not_ready_because())]),
        _family("forebay_sleeping", "1 while the engine sleeps.", [({}, state.asleep)]),
        _family("forebay_draining", "1 from SIGTERM on.", [({}, state.draining)]),
        _family("forebay_requests_in_flight", "Requests to the engine that run.", [({}, state.in_flight.working)]),
        _family(
            "forebay_requests_total", "Requests to the engine that began.", [({}, state.in_flight.begun)], "counter"
        ),
    ]
    if state.seconds_since_work is not None:
        since = state.seconds_since_work()
        families.append(
            _family("forebay_engine_idle_seconds", "Seconds since the engine finished a step.", [({}, since)]),
        )
    if state.download is not None:
        progress = state.download.progress()
        families += [
            _family("forebay_download_size_bytes", "Bytes of the model's files on the hub.", [({}, progress.total)]),
            _family("forebay_download_received_bytes", "Bytes of them that are downloaded.", [({}, progress.done)]),
            _family("forebay_download_rate_bytes_per_second", "Bytes a second, lately.", [({}, progress.rate)]),
        ]
        if progress.eta_seconds is not None:
            families.append(
                _family(
                    "forebay_download_left_seconds",
                    "Seconds until the rest is downloaded.",
                    [({}, progress.eta_seconds)],
                )
            )
    return "".join(families).encode()


def _family(name: str, meaning: str, samples: Iterable[LabelledValue], kind: str = "gauge") -> str:
    lines = [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]
    for labels, value in samples:
        inner = ",".join(f'{label}="{text}"' for label, text in labels.items())
        lines.append(f"{name}{{{inner}}} {float(value)}" if inner else f"{name} {float(value)}")
    return "\n".join(lines) + "\n"
