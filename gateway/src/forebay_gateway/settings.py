"""What can be set, with its defaults."""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

Network = IPv4Network | IPv6Network

MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """How much the gateway takes on, and for how long.

    Attributes:
        head_bytes, head_seconds: of a request's head, from the first byte of the connection on.
        body_bytes, body_seconds: of a request's body.
        namespace_share: of what the others leave free of a budget, so much may be used by one namespace.
        connections: clients at once.
        unknown_connections, unknown_per_source: those that have not shown a valid key yet, of all and of one address.
        trusted_proxies: networks of proxies, whose addresses stand for many clients.
        held, held_per_endpoint: requests that wait for a pod.
        kept_bytes: in memory: bodies until a pod has taken them, answers until a client has, outputs of jobs until they
            are stored.
        jobs_bytes: inputs and outputs of jobs, in memory or in Valkey.
        files_bytes: files and results of batches, there too.
        file_bytes: of one file in the bucket.
        bucket_bytes: files and results of batches in the bucket.
        bucket_seconds: for the bucket to answer a request, with all tries.
        write_seconds: for a client, or a pod, to take anything of what is written to it.
        hold_seconds: how long a request waits for a pod.
        patience_seconds: how long a streamed request waits like any other, before it gets its 200 and comments.
        heartbeat_seconds: from one comment to the next.
        connect_seconds: for the connection to a pod.
        drain_seconds: how long running and held requests may go on after SIGTERM.
    """

    head_bytes: int = 32 << 10
    head_seconds: float = 10.0
    body_bytes: int = 32 * MIB
    body_seconds: float = 60.0
    namespace_share: float = 0.5
    connections: int = 8192
    unknown_connections: int = 2048
    unknown_per_source: int = 256
    trusted_proxies: tuple[Network, ...] = ()
    held: int = 4096
    held_per_endpoint: int = 512
    kept_bytes: int = 128 * MIB
    jobs_bytes: int = 128 * MIB
    files_bytes: int = 128 * MIB
    file_bytes: int = 200 * MIB
    bucket_bytes: int = 65536 * MIB
    bucket_seconds: float = 30.0
    write_seconds: float = 60.0
    hold_seconds: float = 600.0
    patience_seconds: float = 20.0
    heartbeat_seconds: float = 5.0
    connect_seconds: float = 3.0
    drain_seconds: float = 300.0
