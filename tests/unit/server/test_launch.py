"""What is added to the user's settings. The whole plan needs vLLM and is tested in its image."""

from argparse import Namespace

import pytest

from forebay_server.launch import cors_defaults, cpu_defaults, may_fork, plugins


def given(**changed: object) -> Namespace:
    parsed: dict[str, object] = {
        "kv_cache_memory_bytes": None,
        "tensor_parallel_size": 1,
        "pipeline_parallel_size": 1,
        "data_parallel_size": 1,
        "distributed_executor_backend": None,
    }
    return Namespace(**(parsed | changed))


KV = "--kv-cache-memory-bytes=1G"
UNI = "--distributed-executor-backend=uni"


@pytest.mark.parametrize(
    ("parsed", "env", "arguments", "variables"),
    [
        (given(), {}, [KV, UNI], {"TORCHDYNAMO_DISABLE", "VLLM_ENABLE_V1_MULTIPROCESSING"}),
        (given(kv_cache_memory_bytes=1), {}, [UNI], {"TORCHDYNAMO_DISABLE", "VLLM_ENABLE_V1_MULTIPROCESSING"}),
        (given(), {"VLLM_CPU_KVCACHE_SPACE": "4"}, [UNI], {"TORCHDYNAMO_DISABLE", "VLLM_ENABLE_V1_MULTIPROCESSING"}),
        (given(tensor_parallel_size=2), {}, [KV], {"TORCHDYNAMO_DISABLE"}),
        (given(distributed_executor_backend="mp"), {}, [KV], {"TORCHDYNAMO_DISABLE"}),
        (given(), {"TORCHDYNAMO_DISABLE": "0"}, [KV, UNI], {"VLLM_ENABLE_V1_MULTIPROCESSING"}),
    ],
)
def test_cpu_defaults_leave_alone_what_is_set(
    parsed: Namespace, env: dict[str, str], arguments: list[str], variables: set[str]
) -> None:
    added, set_for_vllm = cpu_defaults(parsed, env)
    assert added == ["--enforce-eager", *arguments]
    assert set_for_vllm.keys() == variables


@pytest.mark.parametrize(
    ("wanted", "loaded"),
    [(None, "a,forebay,z"), ("z", "z,forebay"), ("", "forebay"), ("forebay,z", "forebay,z")],
)
def test_plugins_are_added_to_and_never_replaced(wanted: str | None, loaded: str) -> None:
    assert plugins(wanted, ["a", "forebay", "z"]) == loaded


@pytest.mark.parametrize(
    ("parsed", "env", "forked"),
    [
        (given(), {}, True),
        (given(tensor_parallel_size=2), {}, False),
        (given(numa_bind=True), {}, False),
        (given(), {"VLLM_WORKER_MULTIPROC_METHOD": "spawn"}, False),
    ],
)
def test_one_process_on_a_cpu_is_forked_unless_the_user_says_otherwise(
    parsed: Namespace, env: dict[str, str], forked: bool
) -> None:
    assert may_fork(parsed, env) == forked


@pytest.mark.parametrize(
    ("env", "arguments"),
    [
        ({"FOREBAY_AUTH": "APIKey"}, ['--allowed-origins=["*"]']),
        ({"FOREBAY_AUTH": "APIKey", "ALLOWED_ORIGINS": '["https://app.example.com"]'}, []),
        ({"FOREBAY_AUTH": "None"}, []),
    ],
)
def test_pages_of_other_sites_may_call_an_endpoint_with_keys(env: dict[str, str], arguments: list[str]) -> None:
    assert cors_defaults(env) == arguments
