"""The gateway's command line.

The chart's gateway Deployment runs it. It reads flags and variables, and then runs `app`.
"""

import argparse
import gc
import logging
import math
import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import uvloop

from forebay_gateway.app import run
from forebay_gateway.job_services import VALKEY_URL
from forebay_gateway.jobs.receivers import read_namespaces, read_networks
from forebay_gateway.process_limits import release_memory
from forebay_gateway.settings import Limits
from forebay_kube.name_list import read_names
from forebay_kube.own_namespace import read_own_namespace

LIMIT_OPTIONS = {
    "head_bytes": "bytes of a request's head",
    "head_seconds": "seconds in which a request's head must arrive",
    "body_bytes": "bytes of a request's body",
    "body_seconds": "seconds in which a request's body must arrive",
    "namespace_share": "share of the budgets, free of other namespaces, for one namespace; 1 for a single tenant",
    "connections": "connected clients",
    "unknown_connections": "connected clients that have not sent a valid key yet",
    "unknown_per_source": "connected clients without a valid key from one address",
    "held": "requests that wait for a pod, of all endpoints",
    "held_per_endpoint": "requests that wait for a pod of one endpoint",
    "kept_bytes": "bytes in memory: bodies for pods, answers for clients, and outputs of jobs until they are stored",
    "jobs_bytes": "bytes of inputs and outputs of jobs, in memory or in Valkey",
    "files_bytes": "bytes of files and of results of batches, in memory or in Valkey",
    "file_bytes": "bytes of one file in the bucket",
    "bucket_bytes": "bytes of files and of results of batches in the bucket",
    "bucket_seconds": "seconds for the bucket to answer a request",
    "write_seconds": "seconds after which a client or pod that reads nothing is disconnected",
    "hold_seconds": "seconds that a request waits for a pod",
    "patience_seconds": "seconds that a streamed request waits before it gets status 200 and comments",
    "heartbeat_seconds": "seconds between two comments",
    "connect_seconds": "seconds to connect to a pod",
    "drain_seconds": "seconds that requests may continue after SIGTERM",
}
"""The fields of settings.Limits that have a flag and a variable, with their help texts."""


def build_parser() -> argparse.ArgumentParser:
    """Build the parser. Each argument has a variable for its default, so that a Deployment can set either."""
    parser = argparse.ArgumentParser(
        prog="forebay-gateway",
        description="Hold requests for InferenceEndpoints at zero, wake them, and relay the requests. "
        "In a cluster it uses its service account, and outside of one KUBECONFIG.",
    )

    def add(name: str, default: object, text: str, **options: Any) -> None:
        variable = f"FOREBAY_GATEWAY_{name.upper()}"
        value = os.environ.get(variable) or default
        shown = f"{text} (variable {variable}; now {value if value != '' else 'unset'})"
        parser.add_argument(f"--{name.replace('_', '-')}", default=value, help=shown, **options)

    own = read_own_namespace()
    add("port", 8000, "port for all endpoints", type=int)
    add("ops_address", ":8001", "HOST:PORT of probes, metrics and /held")
    add("namespace", own, "namespace of the operator, which has the digests of keys")
    add("home_namespace", "default", "namespace of the endpoints whose ID in URLs is only their name")
    watched = "comma-separated namespaces to watch; all if empty"
    add("watch_namespaces", "", watched, type=read_names)
    add("pod_ops_port", 8001, "port on which servers say whether they are ready", type=int)
    where = "job store: the memory of this single gateway, Valkey for any number of gateways, or off"
    add("jobs", "memory", where, choices=("memory", "valkey", "off"))
    proxies = "comma-separated networks of proxies, whose addresses serve many clients, such as 10.0.0.0/8"
    add("trusted_proxies", "", proxies, type=read_networks)
    inside = "comma-separated networks that webhooks may call besides the internet, such as 10.1.0.0/16"
    add("webhook_networks", "", inside, type=read_networks)
    receivers = "comma-separated namespaces whose Services webhooks may call; own: the namespace of the job's endpoint"
    add("webhook_namespaces", "", receivers, type=read_namespaces)
    add("files_bucket", "", "S3 or compatible bucket for the contents of files; if empty, the job store has them")
    add("files_endpoint", "", "URL of the store of the bucket; Amazon S3 if empty")
    add("files_region", "", "region of the bucket")
    add("files_prefix", "", "prefix of all object names")
    styles = ("path", "virtual")
    add(
        "files_style", "path", "place of the bucket: in the path of URLs, or in the host name (virtual)", choices=styles
    )
    parser.epilog = (
        f"With --jobs=valkey the variable {VALKEY_URL} has its URL, such as rediss://USER:PASSWORD@HOST:6379/0. With "
        "--files-bucket the variables of Amazon's SDKs have its credentials: AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY, or AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE."
    )
    levels = ("DEBUG", "INFO", "WARNING", "ERROR")
    add("log_level", "INFO", "log level", type=str.upper, choices=levels)
    for name, text in LIMIT_OPTIONS.items():
        default = getattr(Limits, name)
        add(name, default, text, type=partial(_read_limit, name))
    return parser


def _read_limit(name: str, text: str) -> float:
    """Parse the value of a limit. Raises ArgumentTypeError."""
    kind = type(getattr(Limits, name))
    try:
        value: float = kind(text)
    except ValueError:
        value = math.nan
    if name == "namespace_share" and not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 and up to 1")
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a {'whole ' if kind is int else ''}number of 0 or more")
    return value


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the gateway until SIGTERM or SIGINT."""
    parsed = build_parser().parse_args(arguments)
    logging.basicConfig(level=parsed.log_level, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    gc.freeze()  # imported modules are never freed, so the collector need not scan them
    release_memory()
    uvloop.run(run(parsed))


if __name__ == "__main__":
    main()
