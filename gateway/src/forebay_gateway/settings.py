"""The gateway's limits with their defaults. `__main__` has a flag and a variable for each."""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

Network = IPv4Network | IPv6Network

MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """The limits of one gateway.

    Attributes:
        head_bytes, head_seconds: size and time of a request's head, from the opening of the connection on.
        body_bytes, body_seconds: size and time of a request's body.
        namespace_share: the share that one namespace may use of the part of a budget that other namespaces do not use.
        connections: concurrent clients.
        unknown_connections, unknown_per_source: concurrent clients without a valid key, in total and from one address.
        trusted_proxies: networks of proxies, whose addresses stand for many clients.
        held, held_per_endpoint: requests that wait for a pod.
        kept_bytes: bytes in memory: bodies until a pod has taken them, answers until a client has taken them, outputs
            of jobs until they are stored.
        jobs_bytes: bytes of inputs and outputs of jobs, in memory or in Valkey.
        files_bytes: bytes of files and results of batches, in memory or in Valkey.
        file_bytes: bytes of one file in the bucket.
        bucket_bytes: bytes of files and results of batches in the bucket.
        bucket_seconds: time for a request to the bucket, with all retries.
        write_seconds: time in which a client or a pod must take some bytes.
        hold_seconds: time that a request waits for a pod.
        patience_seconds: time that a streamed request waits before it gets its 200 and comments.
        heartbeat_seconds: time from one comment to the next.
        connect_seconds: time for the connection to a pod.
        drain_seconds: time that running and held requests have after SIGTERM.
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
