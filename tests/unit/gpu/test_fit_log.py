"""The memory of vLLM is read from its log, in the formats of its versions."""

import pytest

from tests.gpu.parts.fit import TOOK, took

LOG = """\
INFO [gpu_model_runner.py:5348] Model loading took 15.27 GiB{memory} and 3.123456 seconds
INFO [gpu_worker.py:561] Available KV cache memory: 100.0 GiB
INFO [kv_cache_utils.py:2177] GPU KV cache size: 728,177 tokens{more}
INFO [gpu_model_runner.py:6845] Graph capturing finished in 12 secs, took 0.50 GiB
"""


@pytest.mark.parametrize(
    ("memory", "more"),
    [(" memory", ""), ("", ""), (" memory", ", Maximum concurrency for 32,768 tokens per request: 22.22x")],
    ids=["0.26", "0.26, its second model runner", "0.31"],
)
def test_the_memory_of_a_gpu_is_split_into_parts(memory: str, more: str) -> None:
    seen = took(LOG.format(memory=memory, more=more), used=120_000.0, given=0.0)
    assert tuple(seen) == TOOK
    assert tuple(seen.values()) == (15636.5, 144.0, 512.0, 120_000, 120_000 - 15636 - 102_400)


def test_values_that_are_not_logged_stay_empty() -> None:
    seen = took("INFO CPU KV cache size: 65,536 tokens", used=900.0, given=64.0)
    assert tuple(seen.values()) == ("", 1.0, "", 900, "")
