"""CORS headers for answers from outside of vLLM's app, so that pages of other sites can read these answers.

The middleware for keys calls it.
"""

from forebay_server.asgi import App, Receive, Scope, Send

CORS_MIDDLEWARE = "CORSMiddleware"
"""The class of Starlette that vLLM configures by ALLOWED_ORIGINS and similar variables."""


async def answer_with_cors(answer: App, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request by `answer`, outside of vLLM's app, with the CORS headers that the app would add."""
    middlewares = getattr(scope.get("app"), "user_middleware", ())
    cors = next((middleware for middleware in middlewares if middleware.cls.__name__ == CORS_MIDDLEWARE), None)
    if cors is not None:
        answer = cors.cls(answer, *cors.args, **cors.kwargs)
    await answer(scope, receive, send)
