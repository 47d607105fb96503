"""BentoML's file of tasks, which holds results for a day: what it does not keep of a request."""

from __future__ import annotations

from _bentoml_impl.tasks import result
from _bentoml_impl.tasks.serde import JSONSerde
from starlette.requests import Request


class NoUpload(JSONSerde):  # type: ignore[misc]
    """Keeps the head of a request, and not its body: of a large upload that is a third more, in memory."""

    async def serialize_request(self, request: Request) -> bytes:
        """The head; the body is read, as the task needs it after the answer to `submit`."""
        await request.body()
        kept: bytes = self.json_encode({"scope": self.get_scope(request.scope), "content": ""})
        return kept


def keep_no_uploads() -> None:
    """Make BentoML's store of tasks use it; before the service starts."""
    result.JSONSerde = NoUpload
