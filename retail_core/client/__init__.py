"""Typed client of the HTTP service: `Client("http://127.0.0.1:8080").predict("u1").probability`."""

from retail_core.client.async_client import AsyncClient
from retail_core.client.http_client import Client
from retail_core.client.messages import (
    EventsReceipt,
    FileToScore,
    PredictRequest,
    ReasonForUser,
    RejectedRequest,
    ScoredFile,
    ScoringJob,
    UserPrediction,
)

__all__ = [
    "AsyncClient",
    "Client",
    "EventsReceipt",
    "FileToScore",
    "PredictRequest",
    "ReasonForUser",
    "RejectedRequest",
    "ScoredFile",
    "ScoringJob",
    "UserPrediction",
]
