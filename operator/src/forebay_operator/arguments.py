"""Parsers for the values of the command line's arguments, for argparse. `__main__` uses them."""

import argparse
import json
from ipaddress import ip_network
from urllib.parse import urlsplit

from forebay_kube.name_list import read_names
from forebay_operator.settings import POD_IDS
from forebay_operator.spec import EndpointDefaults, InvalidSpec, Manifest, parse_defaults
from forebay_operator.spec.inheritance import check_pattern
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
    """Parse a time window such as "Sat 02:00-05:00 UTC". Returns None for "". Raises ArgumentTypeError otherwise."""
    try:
        return parse_window(text) if text else None
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def read_defaults(text: str) -> EndpointDefaults:
    """Parse the defaults for all endpoints, a JSON object. Raises ArgumentTypeError for an invalid text."""
    try:
        return parse_defaults(text)
    except InvalidSpec as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def read_pod_ids(text: str) -> Manifest:
    """Parse a JSON object with the IDs of servers' pods: runAsUser, runAsGroup and fsGroup.

    Raises ArgumentTypeError for anything else.
    """
    try:
        ids = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from error
    if not isinstance(ids, dict) or not ids.keys() <= POD_IDS.keys():
        raise argparse.ArgumentTypeError(f"not a JSON object with the fields {', '.join(POD_IDS)}")
    if not all(isinstance(value, int) and not isinstance(value, bool) and value >= 0 for value in ids.values()):
        raise argparse.ArgumentTypeError("an ID is a whole number of 0 or more")
    if ids.get("runAsUser") == 0:
        raise argparse.ArgumentTypeError("runAsUser 0 is root, and the pods do not run as root")
    return ids


def read_peers(text: str) -> tuple[Manifest, ...]:
    """Parse a JSON list of objects; "" is an empty list. Raises ArgumentTypeError for anything else."""
    try:
        peers = json.loads(text or "[]")
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from error
    if not isinstance(peers, list) or not all(isinstance(each, dict) for each in peers):
        raise argparse.ArgumentTypeError("not a list of objects")
    return tuple(peers)


def read_inherited_keys(text: str) -> tuple[str, ...]:
    """Parse keys of labels or annotations, separated by commas; DOMAIN/* stands for all keys of a domain.

    Raises ArgumentTypeError, with the reason, for a key that children must not get.
    """
    patterns = tuple(dict.fromkeys(read_names(text)))
    try:
        for pattern in patterns:
            check_pattern(pattern)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return patterns


def read_share(text: str) -> float:
    """Parse a number above 0 and up to 1. Raises ArgumentTypeError for anything else."""
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 and up to 1")
    return share


def read_urls(text: str) -> tuple[str, ...]:
    """Parse URLs such as https://models.example.com, separated by commas. Raises ArgumentTypeError for other texts."""
    urls = tuple(url.rstrip("/") for url in read_names(text))
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or url != f"{parts.scheme}://{parts.netloc}" or not parts.hostname:
            raise argparse.ArgumentTypeError(f"{url!r} is not a URL without a path, such as https://models.example.com")
    return urls
