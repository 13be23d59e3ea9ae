"""Parsers for the values of the command line's arguments, for argparse. `__main__` uses them."""

import argparse
import json
from ipaddress import ip_network

from forebay_kube.name_list import read_names
from forebay_operator.spec import Manifest
from forebay_operator.upgrade_window import UpgradeWindow, parse_window


def read_boolean(text: str) -> bool:
    """Parse true or false. Raises ArgumentTypeError for anything else."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


def read_cidrs(text: str) -> tuple[str, ...]:
    """Parse networks such as 10.0.0.0/8, separated by commas. Raises ArgumentTypeError for anything else."""
    try:
        return tuple(str(ip_network(each)) for each in read_names(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def read_count(text: str) -> int:
    """Parse a whole number of 1 or more. Raises ArgumentTypeError for anything else."""
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def read_window(text: str) -> UpgradeWindow | None:
    """Parse a time window such as "Sat 02:00-05:00 UTC"; "" is None. Raises ArgumentTypeError for anything else."""
    try:
        return parse_window(text) if text else None
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def read_peers(text: str) -> tuple[Manifest, ...]:
    """Parse a JSON list of objects; "" is an empty list. Raises ArgumentTypeError for anything else."""
    try:
        peers = json.loads(text or "[]")
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from error
    if not isinstance(peers, list) or not all(isinstance(each, dict) for each in peers):
        raise argparse.ArgumentTypeError("not a list of objects")
    return tuple(peers)


def read_share(text: str) -> float:
    """Parse a number above 0 and up to 1. Raises ArgumentTypeError for anything else."""
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 and up to 1")
    return share
