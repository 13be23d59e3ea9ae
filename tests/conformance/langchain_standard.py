"""langchain's standard chat tests: run by pytest in the programs' own environment, where langchain is."""

import os
from typing import Any

from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests


class TestChat(ChatModelIntegrationTests):  # type: ignore[misc]
    @property
    def chat_model_class(self) -> Any:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "model": os.environ["FOREBAY_MODEL"],
            "base_url": os.environ["FOREBAY_URL"],
            "api_key": os.environ["FOREBAY_KEY"],
            "max_tokens": 256,
            "max_retries": 0,
            # By default the library asks for it at api.openai.com only.
            "stream_usage": True,
        }

    @property
    def supports_image_inputs(self) -> bool:
        return False
