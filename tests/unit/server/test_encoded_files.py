"""Files in Base64 do not become text for the model; what is text stays."""

import time
from typing import Any

import pytest

from forebay_server.api_compat.encoded_files import omit_files


@pytest.mark.parametrize(
    ("content", "left"),
    [
        ("data:image/png;base64,iVBO+/=", "(PNG omitted)"),
        ("![x](data:image/svg+xml;charset=utf-8;base64,iVBO) y", "![x]((image omitted)) y"),
        ("DATA:;base64,iVBO", "(file omitted)"),
        ("data: {}", "data: {}"),
        ("data:text/plain,Water", "data:text/plain,Water"),
        (
            [[{"source": {"type": "base64", "media_type": "application/vnd.ms-excel", "data": "Zm9v"}}]],
            [[{"source": {"type": "base64", "media_type": "application/vnd.ms-excel", "data": "(file omitted)"}}]],
        ),
        (
            {"type": "audio", "mimeType": "audio/wav", "data": "Zm9v"},
            {"type": "audio", "mimeType": "audio/wav", "data": "(WAV omitted)"},
        ),
        ({"resource": {"mimeType": 7, "blob": "Zm9v"}}, {"resource": {"mimeType": 7, "blob": "(file omitted)"}}),
        ({"type": "input_file", "file_data": "Zm9v"}, {"type": "input_file", "file_data": "(file omitted)"}),
        *(
            (kept, kept)
            for kept in (
                {"type": "text", "media_type": "text/plain", "data": "Water."},
                {"data": "Water.", "rows": [1, None]},
                {"type": "base64", "data": [1]},
            )
        ),
    ],
)
def test_encoded_files_are_omitted(content: Any, left: Any) -> None:
    assert omit_files(content) == left


@pytest.mark.parametrize(
    "part", ["data:", "data:a/", "data:a/b;c=d", "data:a/b;base64", ";base64,", "data:a/b;base64,A"]
)
def test_long_text_is_processed_in_linear_time(part: str) -> None:
    before = time.process_time()
    omit_files(part * 300_000)
    assert time.process_time() - before < 5
