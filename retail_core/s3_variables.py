"""The S3 server that the environment names, by the variables of Amazon's tools."""

from __future__ import annotations

import os


def s3_endpoint() -> str:
    """Address of the S3 server, empty for Amazon's own."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""


def s3_region() -> str:
    """Region of the S3 server."""
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
