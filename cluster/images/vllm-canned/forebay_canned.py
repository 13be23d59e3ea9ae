"""A fake model, for tests only: vLLM's own API server, tokenizer, scheduler and engine, with every answer canned.

It takes the place of the part of vLLM that runs a model, by a public flag: DISTRIBUTED_EXECUTOR_BACKEND=
forebay_canned.CannedExecutor. Each request is answered with FOREBAY_CANNED_TEXT, one token a step, and each step takes
FOREBAY_CANNED_STEP_SECONDS.
"""

import os
import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoTokenizer
from vllm.v1.executor.abstract import Executor
from vllm.v1.kv_cache_interface import FullAttentionSpec
from vllm.v1.outputs import EMPTY_MODEL_RUNNER_OUTPUT, ModelRunnerOutput

TEXT = "This is a canned answer."

KV_CACHE_BYTES = 1 << 30
"""The memory that the scheduler believes to have. Nothing is allocated."""


@dataclass
class Progress:
    """How far one request is."""

    prompt_tokens: int
    computed: int
    answered: int = 0


class CannedExecutor(Executor):  # type: ignore[misc]
    """Answers every request with the same tokens, then ends it."""

    supports_pp = False

    def _init_executor(self) -> None:
        tokenizer = AutoTokenizer.from_pretrained(self.model_config.tokenizer)
        text = os.environ.get("FOREBAY_CANNED_TEXT") or TEXT
        self.answer: list[int] = [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
        self.step_seconds = float(os.environ.get("FOREBAY_CANNED_STEP_SECONDS") or 0)
        self.requests: dict[str, Progress] = {}

    def collective_rpc(
        self,
        method: Any,
        timeout: float | None = None,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        non_block: bool = False,
    ) -> Any:
        """Answer the calls that the engine makes to its workers while it starts. Any other call gets None."""
        block_size = self.cache_config.block_size
        replies: dict[str, Any] = {
            "get_kv_cache_spec": {
                "layers.0": FullAttentionSpec(block_size=block_size, num_kv_heads=1, head_size=8, dtype=torch.bfloat16)
            },
            "get_supported_kv_cache_layouts": ["LBHNC"],
            "determine_available_memory": KV_CACHE_BYTES,
            "get_supported_tasks": ("generate",),
            "supports_draft_weight_updates": False,
        }
        result = [] if method == "compile_or_warm_up_model" else [replies.get(method)]
        return _future(result) if non_block else result

    def execute_model(self, scheduler_output: Any, non_block: bool = False) -> Any:
        """One step: one more token for each request whose prompt is done."""
        for new in scheduler_output.scheduled_new_reqs:
            self.requests[new.req_id] = Progress(len(new.prompt_token_ids), new.num_computed_tokens)
        for finished in scheduler_output.finished_req_ids:
            self.requests.pop(finished, None)
        scheduled = scheduler_output.num_scheduled_tokens
        if scheduled and self.step_seconds:
            time.sleep(self.step_seconds)
        tokens = [self._next_tokens(request, count) for request, count in scheduled.items()]
        output = EMPTY_MODEL_RUNNER_OUTPUT
        if scheduled:
            positions = {request: position for position, request in enumerate(scheduled)}
            output = ModelRunnerOutput(req_ids=list(scheduled), req_id_to_index=positions, sampled_token_ids=tokens)
        return _future(output) if non_block else output

    def _next_tokens(self, request: str, count: int) -> list[int]:
        progress = self.requests[request]
        progress.computed += count
        if progress.computed < progress.prompt_tokens:
            return []
        token = self.answer[progress.answered % len(self.answer)]
        progress.answered += 1
        return [token]

    def check_health(self) -> None:
        """Always healthy."""

    def shutdown(self) -> None:
        """There is nothing to stop."""


def _future(result: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(result)
    return future
