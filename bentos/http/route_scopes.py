"""Every route of the service with the scope that a key needs for it.

A path that is not listed here is answered with 404 ahead of every application, so that BentoML adds no routes
of its own, and no route can be added without deciding who may call it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from retail_core.api_keys import Scope

PUBLIC = None
"""In place of a scope: the route needs no key."""

OTHER = "other"
"""Name of the unlisted paths in metrics and logs."""

SCOPES: Mapping[str, Scope | None] = {
    "/": PUBLIC,
    "/livez": PUBLIC,
    "/readyz": PUBLIC,
    "/healthz": PUBLIC,
    "/metrics": PUBLIC,
    "/docs": PUBLIC,
    "/docs/{asset}": PUBLIC,
    "/openapi.json": PUBLIC,
    "/schema.json": PUBLIC,
    "/predict": Scope.PREDICT,
    "/model": Scope.PREDICT,
    "/events": Scope.EVENTS,
    "/score_batch": Scope.BATCH,
    "/jobs": Scope.BATCH,
    "/jobs/{job_id}": Scope.BATCH,
    "/jobs/{job_id}/result": Scope.BATCH,
    "/jobs/{job_id}/cancel": Scope.BATCH,
    "/model/history": Scope.ADMIN,
    "/model/reload": Scope.ADMIN,
    "/alerts/run": Scope.ADMIN,
}
"""By path; `{name}` stands for one segment of any text."""


class Routes:
    """Finds the route of a path.

    Args:
        scopes: scope by route, as in `SCOPES`.
    """

    def __init__(self, scopes: Mapping[str, Scope | None]) -> None:
        self.scopes = scopes
        self._templates = [(route, _pattern(route)) for route in scopes if "{" in route]

    def of(self, path: str) -> str:
        """The route of a path, a key of `scopes`; `OTHER` of an unlisted path.

        >>> Routes(SCOPES).of("/docs/start.js"), Routes(SCOPES).of("/predict"), Routes(SCOPES).of("/nothing")
        ('/docs/{asset}', '/predict', 'other')
        """
        if path in self.scopes:
            return path
        for route, pattern in self._templates:
            if pattern.fullmatch(path):
                return route
        return OTHER


def _pattern(route: str) -> re.Pattern[str]:
    fixed_texts = re.split(r"\{\w+\}", route)
    return re.compile("[^/]+".join(map(re.escape, fixed_texts)))


ROUTES = Routes(SCOPES)
