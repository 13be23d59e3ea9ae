"""What the values of the command line's arguments may be."""

import argparse
import json
from ipaddress import ip_network

from forebay_operator.spec import Manifest


def read_boolean(text: str) -> bool:
    """true or false. Raises ArgumentTypeError for anything else."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


def read_cidrs(text: str) -> tuple[str, ...]:
    """Networks such as 10.0.0.0/8, separated by commas. Raises ArgumentTypeError for what is none."""
    try:
        return tuple(str(ip_network(each)) for each in read_names(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def read_peers(text: str) -> tuple[Manifest, ...]:
    """A JSON list of objects; none for "". Raises ArgumentTypeError for anything else."""
    try:
        peers = json.loads(text or "[]")
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from error
    if not isinstance(peers, list) or not all(isinstance(each, dict) for each in peers):
        raise argparse.ArgumentTypeError("not a list of objects")
    return tuple(peers)


def read_share(text: str) -> float:
    """A part of something. Raises ArgumentTypeError for what is none."""
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 and up to 1")
    return share


def read_names(text: str) -> list[str]:
    """Words that are separated by commas."""
    return [name for each in text.split(",") if (name := each.strip())]
