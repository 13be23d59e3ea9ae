import json
from pathlib import Path

import aiohttp
import kopf
import pytest
import yaml
from kubernetes.aio import client

from forebay_kube.api_client import ApiClient, ApiServerError, _read_error, dump_yaml
from forebay_operator.apiserver.event_source import _open_session
from tests.unit.tls import rotated


@pytest.mark.parametrize(
    "text", ["plain", "größer", "🌀", "a\x7fb\x85c\u2028d\ufeffe\uffff", 'a "quoted" \\ud83c back\\slash']
)
def test_applied_manifests_are_equal_as_yaml_and_as_json(text: str) -> None:
    content = {"spec": {"env": [{"name": "A", "value": text}]}}
    assert yaml.safe_load(dump_yaml(content)) == content
    assert json.loads(dump_yaml(content)) == content


def test_several_causes_are_listed_in_a_fixed_order() -> None:
    causes = [{"reason": "FieldValueInvalid", "message": f"Invalid value: {name}", "field": name} for name in "ba"]

    def refuse(order: int) -> str:
        listed = ", ".join(f"{cause['field']}: {cause['message']}" for cause in causes[::order])
        answer = {"message": f'HTTPRoute "x" is invalid: [{listed}]', "details": {"causes": causes[::order]}}
        return _read_error(422, json.dumps(answer).encode()).message

    assert refuse(1) == refuse(-1) == 'HTTPRoute "x" is invalid: [a: Invalid value: a, b: Invalid value: b]'


async def test_a_new_ca_is_trusted_once_it_is_in_the_file(tmp_path: Path) -> None:
    async with rotated(tmp_path) as (port, ca_file, rotate):

        async def connect() -> client.ApiClient:
            return client.ApiClient(client.Configuration(f"https://localhost:{port}", ssl_ca_cert=str(ca_file)))

        api = ApiClient(await connect(), connect)
        assert await api.request("GET", "/x") == {}
        await rotate()
        with pytest.raises(ApiServerError, match="CERTIFICATE_VERIFY_FAILED"):
            await api.request("GET", "/x")
        assert await api.request("GET", "/x") == {}
        ca_file.unlink()
        await rotate(write=False)
        for _ in range(2):
            with pytest.raises(ApiServerError, match="CERTIFICATE_VERIFY_FAILED"):
                await api.request("GET", "/x")
        await api.close()


async def test_kopf_ends_if_the_ca_differs(tmp_path: Path) -> None:
    distrusted = 0

    def distrusts() -> None:
        nonlocal distrusted
        distrusted += 1

    async with rotated(tmp_path) as (port, ca_file, rotate):
        info = kopf.ConnectionInfo(server=f"https://localhost:{port}", ca_path=str(ca_file))
        async with _open_session(info, aiohttp.TraceConfig(), distrusts).aiohttp_session as session:
            await session.get(info.server)
            await rotate()
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await session.get(info.server)
        assert distrusted == 1
        async with _open_session(info, aiohttp.TraceConfig(), distrusts).aiohttp_session as session:
            assert (await session.get(info.server)).status == 200
