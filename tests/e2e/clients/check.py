"""The features that an OpenAI client needs, with the official Python client: python check.py BASE_URL KEY MODEL.

Prints one JSON object; check.mjs prints the same with the JavaScript client.
"""

import json
import sys

import openai

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
PROMPT = "The capital of France is"


def name_error(client: openai.OpenAI, model: str) -> str:
    """The class of the exception that a chat raises, and the message's type."""
    try:
        client.chat.completions.create(model=model, messages=QUESTION)  # type: ignore[arg-type]
    except openai.APIStatusError as error:
        return f"{type(error).__name__} {error.status_code}"
    return "no error"


def main() -> None:
    base_url, key, model = sys.argv[1:]
    client = openai.OpenAI(base_url=base_url, api_key=key, max_retries=0, timeout=120)
    fixed = {"model": model, "temperature": 0}
    chat = client.chat.completions.create(messages=QUESTION, max_completion_tokens=16, **fixed)  # type: ignore[call-overload]
    chunks = client.chat.completions.create(messages=QUESTION, max_completion_tokens=16, stream=True, **fixed)  # type: ignore[call-overload]
    completion = client.completions.create(prompt=PROMPT, max_tokens=8, **fixed)  # type: ignore[call-overload]
    parts = client.completions.create(prompt=PROMPT, max_tokens=8, stream=True, **fixed)  # type: ignore[call-overload]
    print(
        json.dumps(
            {
                "chat": chat.choices[0].message.content,
                "chat streamed": "".join(chunk.choices[0].delta.content or "" for chunk in chunks),
                "completion": completion.choices[0].text,
                "completion streamed": "".join(part.choices[0].text for part in parts),
                "models": [model.id for model in client.models.list()],
                "wrong key": name_error(client.with_options(api_key="wrong-key-of-nobody"), model),
                "wrong model": name_error(client, "no-such-model"),
            }
        )
    )


if __name__ == "__main__":
    main()
