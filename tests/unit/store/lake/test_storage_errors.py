"""Refusals of an object store, by the texts that pyarrow and delta-rs raised against a server with users."""

from __future__ import annotations

import pytest

from retail_core.errors import AccessError, DependencyError
from retail_core.store.lake.location import LakeLocation
from retail_core.store.lake.storage_errors import lake_error

DELTA_403 = (
    "Kernel error -> The operation lacked the necessary privileges to complete for path lake/_delta_log\n"
    " Error performing GET - Server returned non-2xx status code\n 403 Forbidden\n <Error><Code>{code}</Code>"
)


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        (
            "Kernel error -> Generic S3 error\n 404 Not Found\n <Error><Code>NoSuchBucket</Code>",
            DependencyError,
            "The bucket lakes of the lake s3://lakes/lake does not exist",
        ),
        (DELTA_403.format(code="InvalidAccessKeyId"), AccessError, "does not accept the credentials"),
        (DELTA_403.format(code="SignatureDoesNotMatch"), AccessError, "does not accept the credentials"),
        (DELTA_403.format(code="AccessDenied"), AccessError, "lack rights on the bucket lakes"),
        (
            "When initiating multiple part upload for key 'lake/x' in bucket 'lakes': AWS Error ACCESS_DENIED"
            " during CreateMultipartUpload operation: Access Denied",
            AccessError,
            "lack rights on the bucket lakes",
        ),
        (
            "When listing objects under key 'lake/': AWS Error INVALID_ACCESS_KEY_ID during ListObjectsV2",
            AccessError,
            "does not accept the credentials",
        ),
        (
            "Kernel error -> Generic S3 error\n Error performing PUT http://169.254.169.254/latest/api/token",
            AccessError,
            "There are no credentials for the lake",
        ),
    ],
)
def test_a_refusal_is_one_line_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, text: str, kind: type[DependencyError], expected: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    error = lake_error(LakeLocation("s3://lakes/lake"), OSError(text))
    assert type(error) is kind
    assert expected in error.message
    assert "\n" not in str(error)
    assert any(name in error.remedy for name in ("AWS_ACCESS_KEY_ID", "RETAIL_LAKE"))
