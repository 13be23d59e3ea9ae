"""The operator's command line.

The chart's operator Deployment runs it. It reads flags and variables, and then runs `app`.
"""

import argparse
import json
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any, get_args

import uvloop

from forebay_kube.name_list import read_names
from forebay_kube.own_namespace import read_own_namespace
from forebay_operator.app import Operator
from forebay_operator.arguments import (
    read_boolean,
    read_cidrs,
    read_count,
    read_defaults,
    read_inherited_keys,
    read_peers,
    read_pod_ids,
    read_share,
    read_urls,
    read_window,
)
from forebay_operator.controller.workers import RESYNC_INTERVAL
from forebay_operator.settings import POD_IDS
from forebay_operator.spec import OverlayMode, UpgradeMode
from forebay_protocol.pod import OPS_PORT

HEALTH_ADDRESS = ":8080"
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
PULL_POLICIES = ("Always", "IfNotPresent", "Never")


def build_parser() -> argparse.ArgumentParser:
    """Build the parser. Each argument has a variable for its default, so that a Deployment can set either."""
    parser = argparse.ArgumentParser(
        prog="forebay-operator",
        description="Watch InferenceEndpoints and run a vLLM server behind an OpenAI-compatible Service for each. "
        "In a cluster it uses its service account, and outside of one KUBECONFIG.",
    )

    def add(flag: str, variable: str, default: str, text: str, **options: Any) -> None:
        value = os.environ.get(variable) or default
        parser.add_argument(
            flag, default=value, help=f"{text} (variable {variable}; now {value or 'unset'})", **options
        )

    _add_pods(add)
    _add_children(add)
    _add_upgrades(add)
    add("--health-address", "FOREBAY_HEALTH_ADDRESS", HEALTH_ADDRESS, "HOST:PORT of probes and metrics")
    own = read_own_namespace()
    add("--namespace", "FOREBAY_NAMESPACE", own, "namespace of the operator, with the lease for leader election")
    watched = "comma-separated namespaces to watch; all if empty"
    add("--watch-namespaces", "FOREBAY_WATCH_NAMESPACES", "", watched, type=read_names)
    home = "namespace of the endpoints whose ID in URLs is only their name; the gateway needs the same value"
    add("--home-namespace", "FOREBAY_HOME_NAMESPACE", "default", home)
    service = "Service of the gateways in the operator's namespace; empty without gateways"
    add("--gateway-service", "FOREBAY_GATEWAY_SERVICE", "", service)
    urls = "comma-separated URLs of the gateways for clients, without a path, for status.addresses"
    add("--gateway-urls", "FOREBAY_GATEWAY_URLS", "", urls, type=read_urls)
    store = "Service of the chart's Valkey, for whose password the operator creates a Secret of this name"
    add("--valkey-service", "FOREBAY_VALKEY_SERVICE", "", store)
    share = "share of the gateways' ports free of other namespaces that one namespace may use: above 0, up to 1"
    add("--namespace-share", "FOREBAY_NAMESPACE_SHARE", "0.5", share, type=read_share)
    port = "port of probes, metrics and reports on servers and gateways"
    add("--ops-port", "FOREBAY_OPS_PORT", str(OPS_PORT), port, type=int)
    rounds = "seconds in which up to 150 endpoints are checked once against the API server"
    add("--resync-interval", "FOREBAY_RESYNC_INTERVAL", f"{RESYNC_INTERVAL:g}", rounds, type=float)
    add("--log-level", "FOREBAY_LOG_LEVEL", "INFO", "log level", type=str.upper, choices=LEVELS)
    return parser


def _add_pods(add: Callable[..., None]) -> None:
    """Add the arguments for the pods of endpoints."""
    add("--gpu-image", "FOREBAY_GPU_IMAGE", "", "image of endpoints with GPUs")
    add("--cpu-image", "FOREBAY_CPU_IMAGE", "", "image of endpoints with gpu.count 0")
    way = "default of spec.overlay: how Forebay's server gets into a pod that has an image of vLLM"
    add("--overlay", "FOREBAY_OVERLAY", "Copy", way, choices=get_args(OverlayMode))
    add("--overlay-image", "FOREBAY_OVERLAY_IMAGE", "", "image with Forebay's server, for the overlay")
    pulled = "imagePullPolicy of the overlay image"
    add("--overlay-pull-policy", "FOREBAY_OVERLAY_PULL_POLICY", "IfNotPresent", pulled, choices=PULL_POLICIES)
    add("--nvidia-runtime-class", "FOREBAY_NVIDIA_RUNTIME_CLASS", "", "RuntimeClass of pods with NVIDIA GPUs")
    pulls = "imagePullPolicy of server and model images"
    add("--pull-policy", "FOREBAY_PULL_POLICY", "IfNotPresent", pulls, choices=PULL_POLICIES)
    ids = "runAsUser, runAsGroup and fsGroup of servers' pods, as a JSON object; the cluster chooses absent ones"
    add("--pod-ids", "FOREBAY_POD_IDS", json.dumps(POD_IDS), ids, type=read_pod_ids)
    defaults = "defaults for all endpoints, as JSON: env, envFrom, imagePullSecrets, resources, cache, caBundle"
    add("--endpoint-defaults", "FOREBAY_ENDPOINT_DEFAULTS", "", defaults, type=read_defaults)


def _add_children(add: Callable[..., None]) -> None:
    """Add the arguments for the network policies, and for the labels and annotations that all children inherit."""
    policy = "whether each endpoint gets a NetworkPolicy"
    add("--network-policies", "FOREBAY_NETWORK_POLICIES", "true", policy, type=read_boolean)
    peers = "NetworkPolicy peers that may reach the ops port of servers, as a JSON list; all peers if empty"
    add("--ops-peers", "FOREBAY_OPS_PEERS", "", peers, type=read_peers)
    denied = "comma-separated networks that servers must not reach, besides cloud metadata services"
    add("--cluster-cidrs", "FOREBAY_CLUSTER_CIDRS", "", denied, type=read_cidrs)
    allowed = "comma-separated networks that servers may reach despite --cluster-cidrs"
    add("--allowed-cidrs", "FOREBAY_ALLOWED_CIDRS", "", allowed, type=read_cidrs)
    keys = "comma-separated keys of %s that children inherit from their endpoint, or example.com/* for a domain"
    inherited = read_inherited_keys
    add("--inherit-labels", "FOREBAY_INHERIT_LABELS", "", keys % "labels", type=inherited)
    add("--inherit-annotations", "FOREBAY_INHERIT_ANNOTATIONS", "", keys % "annotations", type=inherited)


def _add_upgrades(add: Callable[..., None]) -> None:
    """Add the arguments for upgrades in waves."""
    mode = "default of spec.upgrade.mode: when an endpoint gets a pod template that only the operator has changed"
    add("--upgrade-mode", "FOREBAY_UPGRADE_MODE", "Automatic", mode, choices=get_args(UpgradeMode))
    at_once = "maximum number of endpoints that are upgraded at the same time"
    add("--upgrade-max-concurrent", "FOREBAY_UPGRADE_MAX_CONCURRENT", "1", at_once, type=read_count)
    window = "when upgrades may begin, such as 'Sat,Sun 02:00-05:00 Europe/Berlin'; always if empty"
    add("--upgrade-window", "FOREBAY_UPGRADE_WINDOW", "", window, type=read_window)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the operator until SIGTERM or SIGINT."""
    parsed = build_parser().parse_args(arguments)
    logging.basicConfig(level=parsed.log_level, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    if parsed.log_level != "DEBUG":
        logging.getLogger().handlers[0].addFilter(shorten_kopf)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    logging.getLogger("kopf").setLevel(max(logging.WARNING, logging.getLevelName(parsed.log_level)))
    uvloop.run(Operator(parsed).run())


def shorten_kopf(record: logging.LogRecord) -> bool:
    """Remove tracebacks from kopf's log records: kopf's watches end with transient errors, and the message names these
    errors.

    Returns False for the record that says that kopf ignores signals: in a thread, kopf is meant to ignore them.
    """
    if record.name.startswith("kopf."):
        record.exc_info = None
        return not record.msg.startswith("OS signals are ignored")
    return True


if __name__ == "__main__":
    main()
