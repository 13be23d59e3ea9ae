"""CORS headers for answers that do not come from vLLM's app. Without them a page of another site cannot read them."""

from forebay_server.asgi import App, Receive, Scope, Send

MIDDLEWARE = "CORSMiddleware"
"""The class of Starlette that vLLM sets up by ALLOWED_ORIGINS and the variables beside it."""


async def answer_with_cors(answer: App, scope: Scope, receive: Receive, send: Send) -> None:
    """Have `answer` answer a request outside of vLLM's app, with the headers that the app would add."""
    middlewares = getattr(scope.get("app"), "user_middleware", ())
    cors = next((each for each in middlewares if each.cls.__name__ == MIDDLEWARE), None)
    if cors is not None:
        answer = cors.cls(answer, *cors.args, **cors.kwargs)
    await answer(scope, receive, send)
