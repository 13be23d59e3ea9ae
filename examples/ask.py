"""Ask an endpoint a question with the official client and stream the answer.

    export OPENAI_BASE_URL=http://localhost:8000/v2/smollm2/openai/v1 OPENAI_API_KEY=fb_...
    python ask.py smollm2 "What is a dam?"

The two variables are the client's own: https://github.com/openai/openai-python.
"""

import sys

from openai import OpenAI


def main() -> None:
    """Print the answer as it comes."""
    model, question = sys.argv[1:]
    with OpenAI() as client:
        stream = client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": question}],
            temperature=0,
            max_completion_tokens=128,
            stream=True,
        )
        for chunk in stream:
            print(chunk.choices[0].delta.content or "", end="", flush=True)
    print()


if __name__ == "__main__":
    main()
