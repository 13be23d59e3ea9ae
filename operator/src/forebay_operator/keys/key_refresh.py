"""Reads the Secrets with API keys again if gateways ask for it. So a change takes effect in a minute.

The gateways then get new digests. The pods get an annotation, because a kubelet reads a Secret again when its pod
changes. Secrets are not watched, because a watch would need a right on all of them.
"""

import asyncio
import hashlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable

from forebay_kube.api_client import ApiServerError
from forebay_kube.endpoint_key import EndpointKey
from forebay_operator import labels
from forebay_operator.apiserver.cache import Cache
from forebay_operator.apiserver.cluster import Cluster
from forebay_operator.keys.key_digest_sync import KeyDigestSync
from forebay_operator.pods.gateways import Gateways
from forebay_operator.spec import Manifest

logger = logging.getLogger(__name__)

MAX_KEY_AGE = 30.0
"""Seconds for which a Secret that was read is not read again."""

KEY_REFRESH_INTERVAL = 1.0
SECRETS_PER_ROUND = 20
"""Seconds from one round to the next, and the maximum number of Secrets per round. Namespaces take turns."""


class KeyRefresher:
    """Reads the Secrets, for one event loop.

    `request_refresh` is called with an endpoint whose generated Secret is missing, so that the Secret is created again.
    """

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        gateways: Gateways,
        digests: KeyDigestSync,
        request_refresh: Callable[[EndpointKey], None],
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._gateways = gateways
        self._digests = digests
        self._request_refresh = request_refresh
        self._read_at: dict[EndpointKey, float] = {}

    async def run(self) -> None:
        """Read the requested Secrets, forever."""
        while True:
            now = time.monotonic()
            self._read_at = {key: at for key, at in self._read_at.items() if now - at < MAX_KEY_AGE}
            named = self._gateways.reread
            for key in [key for key in named if self._cache.endpoint(key) is None]:
                del named[key]
            for key in pick_fairly([key for key in named if key not in self._read_at], SECRETS_PER_ROUND):
                del named[key]
                self._read_at[key] = now
                try:
                    await self._read(key)
                except ApiServerError as error:
                    logger.warning("keys of endpoint %s/%s: %s", *key, error)
                except Exception:  # the object may have any content
                    logger.exception("could not read the keys of endpoint %s/%s", *key)
            await asyncio.sleep(max(0.0, now + KEY_REFRESH_INTERVAL - time.monotonic()))

    async def _read(self, key: EndpointKey) -> None:
        """Read the Secret of one endpoint. Raises ApiServerError."""
        endpoint = self._cache.endpoint(key)
        auth = (endpoint or {}).get("spec", {}).get("auth") or {}
        if endpoint is None or auth.get("mode") == "None":
            return
        given = auth.get("secretName")
        secret = await self._cluster.get("Secret", key[0], given or labels.key_secret_name(key[1]))
        if secret is None and not given:
            self._request_refresh(key)
        elif self._digests.put(key, secret):
            logger.info("the keys of endpoint %s/%s have changed", *key)
            await self._annotate_pods(key, secret)

    async def _annotate_pods(self, key: EndpointKey, secret: Manifest | None) -> None:
        """Annotate the pods, so that their kubelets read the Secret again."""
        version = ((secret or {}).get("metadata") or {}).get("resourceVersion", "")
        mark = hashlib.sha256(version.encode()).hexdigest()[:16]
        for pod in self._cache.pods_of(key):
            name = pod["metadata"]["name"]
            named = {"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": key[0], "name": name}}
            try:
                await self._cluster.merge(named, {"metadata": {"annotations": {labels.KEYS_ANNOTATION: mark}}})
            except ApiServerError as error:  # the pod was deleted, or its kubelet reads the Secret later anyway
                logger.info("pod %s/%s: %s", key[0], name, error)


def pick_fairly(keys: Iterable[EndpointKey], limit: int) -> list[EndpointKey]:
    """Pick up to `limit` keys: the first of each namespace, then the second of each, and so on."""
    ranks: Counter[str] = Counter()
    ranked = []
    for place, key in enumerate(keys):
        ranked.append((ranks[key[0]], place, key))
        ranks[key[0]] += 1
    return [key for _, _, key in sorted(ranked)[:limit]]
