"""`/docs` and `/openapi.json`: Swagger UI from the files of BentoML's package, without network access."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from bentos.http.openapi import document
from bentos.problems import Problem

DOCS_PATH = "/docs"
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""Everything comes from this server; Swagger UI sets styles of elements."""

ASSETS = ("swagger-ui.css", "swagger-ui-bundle.js")

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Purchase within 24 hours: the API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
<noscript>The document itself is at <a href="/openapi.json">/openapi.json</a>.</noscript>
</body>
</html>
"""

START = """SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  tryItOutEnabled: true,
  persistAuthorization: true,
  presets: [SwaggerUIBundle.presets.apis],
});
"""


def docs_routes() -> list[Route]:
    """The routes; open without a key, as they hold no data."""
    return [
        Route("/", _home, methods=["GET"]),
        Route(DOCS_PATH, _page, methods=["GET"]),
        Route("/docs/{asset}", _asset, methods=["GET"]),
        Route("/openapi.json", _openapi, methods=["GET"]),
    ]


@lru_cache(maxsize=1)
def assets_folder() -> Path:
    """The folder of Swagger UI in BentoML's package."""
    package = find_spec("bentoml")
    if package is None or package.origin is None:
        raise FileNotFoundError("bentoml")
    return Path(package.origin).parent / "_internal" / "server" / "static_content"


async def _home(_: Request) -> Response:
    return RedirectResponse(DOCS_PATH)


async def _page(_: Request) -> Response:
    return HTMLResponse(PAGE, headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY})


async def _asset(request: Request) -> Response:
    name = request.path_params["asset"]
    if name == "start.js":
        return Response(START, media_type="text/javascript")
    if name not in ASSETS:
        raise Problem(404, "not-found", f"There is no {name} here.")
    return FileResponse(assets_folder() / name)


async def _openapi(request: Request) -> Response:
    return JSONResponse(document(request.app.state.bentoml_openapi()))
