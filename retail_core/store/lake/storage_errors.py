"""Failures of the lake's file system or object store as one sentence and a remedy each."""

from __future__ import annotations

import re

from retail_core.errors import AccessError, DependencyError
from retail_core.store.lake.location import LakeLocation

_NO_CREDENTIALS = re.compile(r"169\.254\.16[0-9.]+|no credentials|credentials.*not (found|loaded)", re.I)
_NO_BUCKET = re.compile(r"NoSuchBucket|NO_SUCH_BUCKET|bucket does not exist")
_WRONG_KEY = re.compile(
    r"InvalidAccessKeyId|INVALID_ACCESS_KEY_ID|SignatureDoesNotMatch|SIGNATURE_DOES_NOT_MATCH|Expired_?Token"
    r"|INVALID_CLIENT_TOKEN|InvalidClientTokenId|AuthenticationFailed",
    re.I,
)
_DENIED = re.compile(r"ACCESS_?DENIED|403 Forbidden|lacked the necessary privileges|PermissionDenied", re.I)
_UNREACHABLE = re.compile(
    r"error sending request|NETWORK_CONNECTION|resolve host|dns error|Connection refused", re.I
)


def lake_error(location: LakeLocation, error: Exception) -> DependencyError:
    """The error to raise where the lake cannot be read or written.

    Args:
        location: of the lake.
        error: of pyarrow (`OSError`) or delta-rs (`OSError`, `DeltaError`).
    """
    place, text = location.url_of("").rstrip("/"), str(error)
    if not location.is_local:
        refusal = _object_store_error(place, text)
        if refusal is not None:
            return refusal
    reason = text.partition("\n")[0].rstrip(".")
    return DependencyError(
        f"The lake at {place} cannot be written: {reason}.",
        remedy="free space or correct RETAIL_LAKE; nothing was committed, run the command again.",
    )


def _object_store_error(place: str, text: str) -> DependencyError | None:
    bucket = place.partition("://")[2].partition("/")[0]
    if _NO_BUCKET.search(text):
        return DependencyError(
            f"The bucket {bucket} of the lake {place} does not exist.",
            remedy="create it, or correct RETAIL_LAKE or AWS_ENDPOINT_URL.",
        )
    if _NO_CREDENTIALS.search(text):
        return AccessError(
            f"There are no credentials for the lake {place}.",
            remedy="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
        )
    if _WRONG_KEY.search(text):
        return AccessError(
            f"The object store does not accept the credentials for the lake {place}.",
            remedy="correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN).",
        )
    if _DENIED.search(text):
        return AccessError(
            f"The credentials are wrong, or lack rights on the bucket {bucket} of the lake {place}.",
            remedy="allow s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject there, or correct "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
        )
    if _UNREACHABLE.search(text):
        return DependencyError(
            f"The object store of the lake {place} does not answer.",
            remedy="correct AWS_ENDPOINT_URL and AWS_REGION, or start the server.",
        )
    return None
