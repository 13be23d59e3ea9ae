"""Differences between vLLM's versions that can be tested without vLLM."""

import asyncio
import gc
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from forebay_server import vllm_compat


class Engine:
    """vLLM's engine client: `returned` is what its wake_up returns."""

    def __init__(self, returned: bool | None, sleeps: bool) -> None:
        self.returned, self.sleeps = returned, sleeps

    async def wake_up(self, tags: list[str] | None) -> bool | None:
        return self.returned

    async def is_sleeping(self) -> bool:
        return self.sleeps


@pytest.mark.parametrize(
    ("returned", "sleeps", "awake"),
    [(True, False, True), (False, True, False), (None, False, True), (None, True, False)],
    ids=["0.31", "0.31, in part", "0.26", "0.26, in part"],
)
def test_an_engine_is_awake_only_if_all_of_it_is(returned: bool | None, sleeps: bool, awake: bool) -> None:
    assert asyncio.run(vllm_compat.wake_up(Engine(returned, sleeps), None)) is awake


def counting(number: int) -> Any:
    return SimpleNamespace(get_num_unfinished_requests=lambda: number)


@pytest.mark.parametrize(
    ("client", "counts"),
    [
        (SimpleNamespace(engine_core=object(), **vars(counting(3))), {0: 3}),
        (SimpleNamespace(engine_core=object(), output_processor=counting(3)), {0: 3}),
        (
            SimpleNamespace(
                engine_core=SimpleNamespace(
                    core_engines=[b"a", b"b"], reqs_in_flight={"1": b"b", "2": b"b", "3": b"gone"}
                )
            ),
            {0: 0, 1: 2},
        ),
    ],
    ids=["0.29", "0.26", "two engines"],
)
def test_unfinished_requests_are_counted_for_each_engine(client: Any, counts: dict[int, int]) -> None:
    assert vllm_compat.requests_by_engine(client)() == counts


def test_the_first_existing_module_is_used() -> None:
    assert vllm_compat._first_module("json.gone", "json.decoder", "json").__name__ == "json.decoder"
    with pytest.raises(ModuleNotFoundError, match=r"json\.gone"):
        vllm_compat._first_module("json.missing", "json.gone")


@pytest.mark.parametrize("fails", [False, True])
def test_the_garbage_collector_is_disabled_only_during_imports(fails: bool) -> None:
    frozen = gc.get_freeze_count()
    try:
        with suppress(ValueError), vllm_compat.quick_imports():
            assert not gc.isenabled()
            if fails:
                raise ValueError("a wrong setting")
        assert gc.isenabled()
        assert gc.get_freeze_count() > frozen, "an imported module is not searched again"
    finally:
        gc.unfreeze()


class Tokenizer:
    """A tokenizer of words; unknown words have the ID 0."""

    unk_token_id = 0
    known = {"<mark>": 7}  # noqa: RUF012 - never changed

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        if text == "<raises>":
            raise ValueError(text)
        return [1] * add_special_tokens + [self.known.get(word, 0) for word in text.split("-")]


def test_a_text_is_a_token_if_the_tokenizer_gives_one_id() -> None:
    token_id = vllm_compat.token_id_of(SimpleNamespace(get_tokenizer=Tokenizer))
    assert [token_id(text) for text in ("<mark>", "<mark>-<mark>", "unknown", "<raises>")] == [7, None, None, None]


def test_a_server_without_a_tokenizer_has_no_tokens() -> None:
    def refuse() -> None:
        raise ValueError("skip_tokenizer_init")

    assert vllm_compat.token_id_of(SimpleNamespace(get_tokenizer=refuse))("<mark>") is None
