"""OpenAI's files and batches on a gateway with a real API server, by the official client; pods are canned."""

import asyncio
import itertools
import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
from openai.types import Batch

from tests.integration.canned_pod import CannedPod, Exchange
from tests.integration.gateway_process import MODEL, Gateway, namespaced_gateway, running_gateway
from tests.integration.job_pods import finish
from tests.integration.openai_calls import ready_pod, send
from tests.integration.valkey_process import ValkeyServer
from tests.kubectl import Kubectl, wait_for

CHAT: Literal["/v1/chat/completions"] = "/v1/chat/completions"


@pytest.fixture(scope="module", params=["memory", "bucket", "valkey"])
def gateway(
    request: pytest.FixtureRequest, control_plane: Kubectl, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """With files in its memory, in a bucket with what is known of them in Valkey, and in Valkey. The last one is still
    there for the tests of other gateways, which share its Valkey."""
    url = request.getfixturevalue("valkey_server").url if request.param != "memory" else ""
    bucket = request.getfixturevalue("bucket_server").url if request.param == "bucket" else ""
    with namespaced_gateway(control_plane, tmp_path_factory.mktemp("gateway") / "log", url, bucket) as running:
        yield running


def requests(count: int, **changed: Any) -> bytes:
    """An input file."""
    lines = []
    for number in range(count):
        body = {"model": MODEL, "messages": [{"role": "user", "content": f"Question {number}"}]}
        line = {"custom_id": f"request-{number}", "method": "POST", "url": CHAT, "body": body, **changed}
        lines.append(json.dumps(line))
    return "\n".join(lines).encode()


async def answer(exchange: Exchange) -> None:
    """The answer of a chat. Of every ten requests one job fails, and one is answered with an error."""
    asked = json.loads(await exchange.read_body())["input"]
    question = asked["body"]["messages"][0]["content"]
    if question.endswith("9"):
        await finish(exchange, status="FAILED", error="it is a nine")
        return
    assert asked["whole_answer"]
    wrong = {"error": {"message": "it is an eight", "code": "context_length_exceeded"}}
    good = {"object": "chat.completion", "route": asked["route"], "text": question}
    body, status = (wrong, 400) if question.endswith("8") else (good, 200)
    await finish(exchange, {"status_code": status, "body": body})


def begin(client: openai.OpenAI, content: bytes, **more: Any) -> Batch:
    file = client.files.create(file=("in.jsonl", content), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h", **more)


def becomes(client: openai.OpenAI, batch: Batch, status: str) -> Batch:
    wait_for(lambda: client.batches.retrieve(batch.id).status == status, f"the batch is {status}", timeout=60)
    return client.batches.retrieve(batch.id)


def read(client: openai.OpenAI, file: str | None) -> dict[str, Any]:
    """The lines of an output or error file by custom_id."""
    assert file
    return {line["custom_id"]: line for line in map(json.loads, client.files.content(file).text.splitlines())}


def test_files_are_stored_listed_and_deleted(gateway: Gateway) -> None:
    gateway.endpoint("files")
    gateway.endpoint("others", keys=["fb_another"])
    client = gateway.client(gateway.url("files"))
    made = [client.files.create(file=(f"{name}.jsonl", b"{}\n"), purpose="batch") for name in "abc"]
    assert (made[0].object, made[0].bytes, made[0].filename, made[0].purpose) == ("file", 3, "a.jsonl", "batch")
    assert {each.id for each in client.files.list(limit=2)} == {each.id for each in made}, "page by page"
    with pytest.raises(openai.BadRequestError, match="order must be"):
        client.files.list(extra_query={"order": "sideways"})
    assert client.files.retrieve(made[1].id) == made[1]
    assert client.files.content(made[1].id).text == "{}\n"
    assert client.files.delete(made[1].id).deleted
    for ask in (client.files.retrieve, client.files.delete, client.files.content):
        with pytest.raises(openai.NotFoundError, match="No such File"):
            ask(made[1].id)
    other = gateway.client(gateway.url("others"), "fb_another")
    with pytest.raises(openai.NotFoundError, match="No such File"):
        other.files.content(made[0].id)
    assert list(other.files.list()) == []
    with pytest.raises(openai.AuthenticationError):
        gateway.client(gateway.url("files"), "wrong").files.list()
    with pytest.raises(openai.BadRequestError, match="purpose must be batch"):
        client.files.create(file=("a", b"x"), purpose="fine-tune")
    assert (gateway.replicas("files"), gateway.held("files")) == (0, {}), "files start no pod"


def test_a_batch_starts_its_endpoint_and_completes(gateway: Gateway) -> None:
    gateway.endpoint("batching")
    client = gateway.client(gateway.url("batching"))
    kept = {"anchor": "created_at", "seconds": 7200}
    batch = begin(client, requests(100), metadata={"for": "a test"}, output_expires_after=kept)
    assert (batch.status, batch.endpoint, batch.metadata) == ("validating", CHAT, {"for": "a test"})
    wait_for(lambda: gateway.replicas("batching") == 1, "the endpoint is started")
    with CannedPod() as pod:
        pod.answer = answer
        gateway.pods("batching", pod)
        done = becomes(client, batch, "completed")
        counts = done.request_counts
        assert counts
        assert (counts.total, counts.completed, counts.failed) == (100, 80, 20)
        output, errors = read(client, done.output_file_id), read(client, done.error_file_id)
        for file in (client.files.retrieve(str(each)) for each in (done.output_file_id, done.error_file_id)):
            assert file.expires_at == file.created_at + 7200
        assert set(output) == {f"request-{number}" for number in range(100) if number % 10 < 8}
        assert all(
            line["response"]["body"] == {"object": "chat.completion", "route": CHAT, "text": f"Question {name[8:]}"}
            for name, line in output.items()
        )
        assert {line["error"]["message"] for line in errors.values() if line["error"]} == {"it is a nine"}
        refused = [line["response"] for line in errors.values() if not line["error"]]
        assert [each["status_code"] for each in refused] == [400] * 10
        assert {each["body"]["error"]["message"] for each in refused} == {"it is an eight"}
        assert [each.id for each in client.batches.list()] == [batch.id]
        assert len(pod.requests) == 100, "no request runs twice"
        with pytest.raises(openai.ConflictError, match="completed"):
            client.batches.cancel(batch.id)


@pytest.mark.parametrize("route", ["/v1/completions", "/v1/embeddings", "/v1/responses"])
def test_batches_work_for_every_supported_route(gateway: Gateway, route: Any) -> None:
    name = route.rsplit("/", 1)[1]
    gateway.endpoint(name)
    client = gateway.client(gateway.url(name))

    async def answer_with_route(exchange: Exchange) -> None:
        await finish(exchange, {"route": json.loads(await exchange.read_body())["input"]["route"]})

    with ready_pod(gateway, name) as pod:
        pod.answer = answer_with_route
        file = client.files.create(file=("in.jsonl", requests(2, url=route)), purpose="batch")
        batch = client.batches.create(input_file_id=file.id, endpoint=route, completion_window="24h")
        done = becomes(client, batch, "completed")
        found = [line["response"]["body"] for line in read(client, done.output_file_id).values()]
        assert found == [{"route": route}] * 2


def test_a_cancelled_batch_returns_the_results_so_far(gateway: Gateway) -> None:
    gateway.endpoint("cancelled", env=[{"name": "MAX_CONCURRENCY", "value": "2"}])
    client = gateway.client(gateway.url("cancelled"))

    counter = itertools.count()

    async def answer_five(exchange: Exchange) -> None:
        number = next(counter)  # whichever lines these are: they need not come in their order
        await exchange.read_body()
        if number < 5:
            await finish(exchange, {"text": "one of five"})
        else:
            await exchange.reader.read()
            pod.left.set()

    with ready_pod(gateway, "cancelled") as pod:
        pod.answer = answer_five
        batch = begin(client, requests(20))
        wait_for(lambda: client.batches.retrieve(batch.id).request_counts.completed == 5, "five requests are done")  # type: ignore[union-attr]
        with pytest.raises(openai.ConflictError, match=f"input of {batch.id}"):
            client.files.delete(batch.input_file_id)
        assert client.batches.cancel(batch.id).status in ("cancelling", "cancelled")
        done = becomes(client, batch, "cancelled")
        assert pod.left.wait(5), "the generation ends"
        assert len(read(client, done.output_file_id)) == 5
        codes = {line["error"]["code"] for line in read(client, done.error_file_id).values()}
        assert codes == {"batch_cancelled"}
        assert client.files.delete(batch.input_file_id).deleted


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"", "empty_file"), (b"{", "invalid_json_line"), (requests(1, url="/v1/embeddings"), "invalid_url")],
)
def test_an_invalid_input_file_fails_the_batch_and_names_the_line(gateway: Gateway, content: bytes, code: str) -> None:
    gateway.endpoint("bad")
    client = gateway.client(gateway.url("bad"))
    done = becomes(client, begin(client, content), "failed")
    assert done.errors
    assert done.errors.data
    assert done.errors.data[0].code == code
    assert (gateway.replicas("bad"), gateway.held("bad")) == (0, {})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"endpoint": "/v1/nothing"}, "endpoint must be"),
        ({"completion_window": "1h"}, "completion_window must be"),
        ({"input_file_id": 3}, "input_file_id must be"),
        ({"input_file_id": "file-none"}, "No such File"),
        ({"metadata": {"a": 1}}, "metadata must be"),
        ({"output_expires_after": 3600}, "output_expires_after must have"),
        ({"output_expires_after": {"seconds": 3600}}, "the anchor created_at"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 3599}}, "seconds from 3600 to 2592000"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": True}}, "seconds from 3600"),
        (b"{", "not a JSON object"),
    ],
)
def test_an_invalid_batch_is_rejected(gateway: Gateway, content: Any, said: str) -> None:
    gateway.endpoint("refusing")
    good = {"endpoint": CHAT, "completion_window": "24h", "input_file_id": "file-1"}
    body = content if isinstance(content, bytes) else {**good, **content}
    status, _, answered = send(gateway.port, "POST", "/v2/refusing/openai/v1/batches", body)
    assert status in (400, 404)
    assert said in json.loads(answered)["error"]["message"]


def test_the_url_without_an_endpoint_needs_a_key_of_exactly_one_endpoint(gateway: Gateway) -> None:
    gateway.endpoint("single", keys=["fb_single"])
    shared = f"http://127.0.0.1:{gateway.port}/openai/v1"
    client = gateway.client(shared, "fb_single")
    file = client.files.create(file=("in.jsonl", b"{}"), purpose="batch")
    assert gateway.client(gateway.url("single"), "fb_single").files.retrieve(file.id) == file
    gateway.endpoint("twin", keys=["fb_single"])
    with pytest.raises(openai.ConflictError, match="/v2/single/openai/v1 or /v2/twin/openai/v1"):
        client.files.list()


def test_a_batch_continues_after_its_gateway_dies(
    control_plane: Kubectl, valkey_server: ValkeyServer, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(namespaced_gateway(control_plane, tmp_path / "one", valkey_server.url))
        first.endpoint("outliving", env=[{"name": "MAX_CONCURRENCY", "value": "4"}])
        pod = stack.enter_context(ready_pod(first, "outliving"))

        async def answer_slowly(exchange: Exchange) -> None:
            question = json.loads(await exchange.read_body())["input"]["body"]["messages"][0]["content"]
            await asyncio.sleep(0.1)
            await finish(exchange, {"text": question})

        pod.answer = answer_slowly
        with running_gateway(first.kubectl, first.system, tmp_path / "two", valkey_url=valkey_server.url) as second:
            first.process.send_signal(signal.SIGSTOP)  # so that it is the other's
            client = second.client(second.url("outliving"))
            batch = begin(client, requests(200))
            wait_for(lambda: client.batches.retrieve(batch.id).request_counts.completed > 20, "the batch is running")  # type: ignore[union-attr]
            second.process.kill()
            first.process.send_signal(signal.SIGCONT)
        done = becomes(first.client(first.url("outliving")), batch, "completed")
        output = read(first.client(first.url("outliving")), done.output_file_id)
        assert {name: line["response"]["body"]["text"] for name, line in output.items()} == {
            f"request-{number}": f"Question {number}" for number in range(200)
        }
        assert done.error_file_id is None
