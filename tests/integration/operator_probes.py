"""Requests to an operator's ops port."""

from tests.fetch import fetch


def ask(port: int, path: str) -> tuple[int, str]:
    try:
        return fetch(f"http://127.0.0.1:{port}{path}", 5)
    except OSError as error:
        return 0, str(error)


def leads(port: int) -> bool:
    return ask(port, "/readyz") == (200, "leading\n")


def stands_by(port: int) -> bool:
    return ask(port, "/readyz") == (200, "standing by\n")


def metric(port: int, name: str) -> float:
    lines = ask(port, "/metrics")[1].splitlines()
    return float(next(line.split()[-1] for line in lines if line.startswith(name)))
