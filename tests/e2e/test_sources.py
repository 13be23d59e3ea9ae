"""Sources of weights other than a hub and an image: buckets, and adapters from a claim, on a real vLLM."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.canned import KV_CACHE, MODEL, SMALL
from tests.e2e.claims import filled_claim
from tests.e2e.forebay import PROGRAMS, Clients, images, read_check, read_key, wait_ready
from tests.e2e.standins import run_helper
from tests.endpoints import endpoint
from tests.kubectl import Kubectl, Manifest, condition, wait_for

LENGTH = {"name": "MAX_MODEL_LEN", "value": "2048"}


PATIENT = {
    "RUNAI_STREAMER_CONCURRENCY": "2",
    "RUNAI_STREAMER_CHUNK_BYTESIZE": str(64 << 20),
    "RUNAI_STREAMER_S3_LOW_SPEED_LIMIT": "1",
    "RUNAI_STREAMER_S3_TIMEOUT": "30000",
}
"""The stand-in reads a whole object for each part of it, so few and large parts are requested."""


@pytest.fixture(scope="module")
def buckets(kubectl: Kubectl) -> Iterator[str]:
    """A stand-in for S3 at port 8080 and Google's storage at 8081, with the demo's model in models/smollm2 of both."""
    asked = ("models", "smollm2", "/model")
    # moto would take the first part of its host name for a bucket
    env = {"S3_IGNORE_SUBDOMAIN_BUCKETNAME": "true"}
    with run_helper(kubectl, "buckets", *asked, ports=(8080, 8081), mounts={"/model": MODEL}, env=env) as host:
        yield host


@pytest.fixture(scope="module")
def adapters(kubectl: Kubectl) -> Iterator[str]:
    """A claim with an adapter in /babble."""
    program = (Path(__file__).parent / "make_adapter.py").read_text()
    with filled_claim(kubectl, "adapters", images()["vllm-cpu"], "python3", "-c", program, "/weights/babble") as name:
        yield name


def in_bucket(name: str, model: str, env: list[Manifest], **spec: Any) -> Manifest:
    cpu = {"gpu": {"count": 0}, "resources": SMALL}
    return endpoint(name, model=model, image=images()["vllm-buckets"], env=[KV_CACHE, LENGTH, *env], **cpu, **spec)


def variables(**values: str) -> list[Manifest]:
    return [{"name": name, "value": value} for name, value in values.items()]


def test_a_model_in_googles_storage_serves_with_adapters_despite_an_invalid_one(
    kubectl: Kubectl, buckets: str, adapters: str, clients: Clients
) -> None:
    address = f"http://{buckets}:8081"
    env = variables(
        CLOUD_STORAGE_EMULATOR_ENDPOINT=address,
        STORAGE_EMULATOR_HOST=address,
        RUNAI_STREAMER_GCS_USE_ANONYMOUS_CREDENTIALS="true",
    )
    babble = {"name": "babble", "source": f"pvc://{adapters}/babble"}
    kubectl.apply(in_bucket("google", "gs://models/smollm2", env, adapters=[babble]))
    found = wait_ready(kubectl, "google", timeout=300)
    assert found["status"]["models"] == ["google", "babble"]
    model, adapter = (check(kubectl, clients, "google", name) for name in ("google", "babble"))
    assert "Paris" in model["chat"]
    assert model["models"] == ["google", "babble"]
    assert "Paris" not in adapter["chat"]
    assert adapter["chat"] == adapter["chat streamed"]

    nothing = {"name": "nothing", "source": f"pvc://{adapters}/nothing"}
    kubectl.patch("iep", "google", {"spec": {"adapters": [babble, nothing]}})

    def reports_the_adapter() -> Manifest | None:
        ready = condition(kubectl.get("iep", "google"), "Ready")
        return ready if "InvalidAdapter" in ready["message"] else None

    ready = wait_for(reports_the_adapter, "the endpoint says which adapter is bad", timeout=240)
    assert (ready["status"], ready["reason"]) == ("True", "Degraded")
    assert "The adapter nothing could not be loaded" in ready["message"]
    kubectl.delete("iep", "google")


@pytest.mark.soak
def test_a_model_in_s3_serves_with_keys_from_a_secret(kubectl: Kubectl, buckets: str, clients: Clients) -> None:
    keys = ("AWS_ACCESS_KEY_ID=of-the-test", "AWS_SECRET_ACCESS_KEY=of-the-test")
    kubectl.run("create", "secret", "generic", "aws", *(f"--from-literal={key}" for key in keys))
    address = {"AWS_ENDPOINT_URL": f"http://{buckets}:8080", "AWS_REGION": "us-east-1"}
    env = variables(**address, RUNAI_STREAMER_S3_USE_VIRTUAL_ADDRESSING="0", **PATIENT)
    kubectl.apply(in_bucket("bucket", "s3://models/smollm2", env, envFrom=[{"secretRef": {"name": "aws"}}]))
    wait_ready(kubectl, "bucket", timeout=300)
    assert "Paris" in check(kubectl, clients, "bucket", "bucket")["chat"]
    kubectl.delete("iep", "bucket")


def check(kubectl: Kubectl, clients: Clients, name: str, model: str) -> dict[str, Any]:
    """The answer of a model to the official client."""
    url = f"http://{name}.{kubectl.namespace}.svc/v1"
    return read_check(clients.run_inside(PROGRAMS / "check.py", url, read_key(kubectl, name), model))
