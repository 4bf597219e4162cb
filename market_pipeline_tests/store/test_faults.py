from __future__ import annotations

import pytest
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
    SSLError,
)
from botocore.parsers import ResponseParserError

from market_pipeline.store.faults import store_error

URI = "s3://bucket/lake/1.parquet"
SECRET = "AKIASECRET"


def refusal(status, code):
    """An error as boto3 raises it for an answer of the store, with a secret in its message."""
    parts = {"Code": code, "Message": f"{SECRET} is wrong"}
    answer = {"Error": parts, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "GetObject")


@pytest.mark.parametrize(
    ("error", "kind", "found", "next_step"),
    [
        (refusal(401, "Unauthorized"), "forbidden", "401 Unauthorized", "keys are right"),
        (refusal(403, "AccessDenied"), "forbidden", "403 AccessDenied", "LAKE_ANONYMOUS=true"),
        (refusal(403, "403"), "forbidden", "403", "keys are right"),
        (refusal(403, "RequestTimeTooSkewed"), "forbidden", "403 RequestTimeTooSkewed", "clock"),
        (refusal(400, "ExpiredToken"), "forbidden", "400 ExpiredToken", "new keys"),
        (refusal(400, "InvalidToken"), "forbidden", "400 InvalidToken", "AWS_SESSION_TOKEN"),
        (refusal(403, "InvalidObjectState"), "forbidden", "403 InvalidObjectState", "archive"),
        (refusal(404, "NoSuchKey"), "missing", "404 NoSuchKey", "PIPELINE_LAKE_URI"),
        (refusal(412, "PreconditionFailed"), "mismatch", "412 PreconditionFailed", "list it again"),
        (refusal(416, "InvalidRange"), "mismatch", "416 InvalidRange", "list it again"),
        (refusal(301, "PermanentRedirect"), "unavailable", "301 PermanentRedirect", "LAKE_REGION"),
        (
            refusal(400, "AuthorizationHeaderMalformed"),
            "unavailable",
            "400 AuthorizationHeaderMalformed",
            "LAKE_REGION",
        ),
        (refusal(500, "InternalError"), "unavailable", "500 InternalError", "Wait a little"),
        (refusal(503, "SlowDown"), "unavailable", "503 SlowDown", "Wait a little"),
        (NoCredentialsError(), "forbidden", "NoCredentialsError", "AWS_ACCESS_KEY_ID"),
        (
            SSLError(endpoint_url=SECRET, error=SECRET),
            "unavailable",
            "SSLError",
            "PIPELINE_LAKE_CA_BUNDLE",
        ),
        (
            EndpointConnectionError(endpoint_url=SECRET),
            "unavailable",
            "EndpointConnectionError",
            "PIPELINE_LAKE_ENDPOINT_URL",
        ),
        (ReadTimeoutError(endpoint_url=SECRET), "unavailable", "ReadTimeoutError", "again"),
        (ResponseParserError(SECRET), "unavailable", "ResponseParserError", "what lies between"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_kinds(error, kind, found, next_step):
    """Each error of boto3 has its kind and says what to do, and none repeats boto3's text."""
    made = store_error(error, URI)
    assert (kind, found, URI) == (made.kind, made.found, made.uri)
    assert next_step in made.next_step
    assert SECRET not in f"{made} {made!r} {vars(made)}"
