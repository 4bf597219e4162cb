"""What an error of boto3 means for a user: one `StoreError` with its kind and what to do."""

from __future__ import annotations

import ssl
from pathlib import Path

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSLError,
    TokenRetrievalError,
)
from botocore.parsers import ResponseParserError

from market_pipeline.errors import StoreError
from market_pipeline.shown import shown

# How OpenSSL names what a server answers that has no version as new as is asked for.
_OLDER = "PROTOCOL_VERSION"

__all__ = [
    "BOTO_ERRORS",
    "changed",
    "no_etag",
    "no_listing",
    "require_ca_bundle",
    "store_error",
    "unusable_endpoint",
]

BOTO_ERRORS = (ClientError, BotoCoreError, ResponseParserError)
"""What a client of boto3 raises."""

_WITHOUT_KEYS = (NoCredentialsError, PartialCredentialsError, ProfileNotFound, TokenRetrievalError)
_WRONG_REGION = {"AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
_REDIRECTS = range(300, 400)
_SHOWN_ETAG = 80

_CHECK_KEYS = (
    "Check that the keys are right and may list and read this bucket (`market-pipeline doctor` "
    "says where they come from), or set PIPELINE_LAKE_ANONYMOUS=true if the store is public."
)
_NEW_KEYS = "Get new keys: those in use have expired."
_NEXT_STEPS = {
    "ExpiredToken": _NEW_KEYS,
    "TokenRefreshRequired": _NEW_KEYS,
    "InvalidToken": "Set AWS_SESSION_TOKEN to the token that belongs to the keys, or unset it.",
    "RequestTimeTooSkewed": "Set this machine's clock: it differs too much from the store's.",
    "InvalidObjectState": "Have the object brought back from the archive, then run this again.",
}


def store_error(error: Exception, uri: str) -> StoreError:
    """The error to raise for one of `BOTO_ERRORS`.

    Its text has the kind of boto3's error or the store's code, never boto3's text: that may repeat
    what the request was made of.
    """
    if isinstance(error, ClientError):
        return _refused(error, uri)
    found = type(error).__name__
    if isinstance(error, _WITHOUT_KEYS):
        return StoreError(
            "there are no usable credentials for the store",
            kind="forbidden",
            next_step=(
                "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment or .env, or "
                "PIPELINE_LAKE_ANONYMOUS=true if the store is public."
            ),
            uri=uri,
            found=found,
        )
    if isinstance(error, SSLError) and _OLDER in str(error):
        return StoreError(
            "the store does not offer a version of TLS that is as new as it must be",
            kind="unavailable",
            next_step=(
                "Use an endpoint that does; PIPELINE_TLS_MINIMUM=1.2 accepts the older version."
            ),
            uri=uri,
            found=found,
        )
    if isinstance(error, SSLError):
        return StoreError(
            "the store's TLS certificate was not accepted",
            kind="unavailable",
            next_step=(
                "Set PIPELINE_LAKE_CA_BUNDLE to the PEM file of the authority that signed it, and "
                "check PIPELINE_LAKE_ENDPOINT_URL."
            ),
            uri=uri,
            found=found,
        )
    if isinstance(error, EndpointConnectionError | ConnectTimeoutError):
        return StoreError(
            "the store cannot be reached",
            kind="unavailable",
            next_step=(
                "Check the network and PIPELINE_LAKE_ENDPOINT_URL, then run this again; what has "
                "come so far is kept."
            ),
            uri=uri,
            found=found,
        )
    return _no_answer(uri, found)


def no_listing(uri: str) -> StoreError:
    """The error for an answer that is not a listing though a listing was asked for."""
    return _no_answer(uri, "no listing")


def no_etag(uri: str, etag: str) -> StoreError:
    """The error for an object whose ETag cannot be one: it would stand in every table as it is."""
    return _no_answer(uri, f"an ETag of {len(etag)} characters, {shown(etag, _SHOWN_ETAG)}")


def _no_answer(uri: str, found: str) -> StoreError:
    return StoreError(
        "the store does not answer as it should",
        kind="unavailable",
        next_step=(
            "Run this again; what has come so far is kept. If it goes on, check "
            "PIPELINE_LAKE_ENDPOINT_URL and what lies between."
        ),
        uri=uri,
        found=found,
    )


def require_ca_bundle(file: Path, uri: str) -> None:
    """Make sure that a file holds certificate authorities.

    Raises:
        StoreError: It is not there, or holds none.
    """
    try:
        ssl.create_default_context(cafile=file)
    except OSError as error:  # `ssl.SSLError` is one
        raise StoreError(
            "the file of certificate authorities for the store cannot be used",
            kind="unavailable",
            next_step="Set PIPELINE_LAKE_CA_BUNDLE to a PEM file with the authorities to trust.",
            uri=uri,
            found=f"{file}: {error.strerror or type(error).__name__}",
        ) from None


def unusable_endpoint(uri: str) -> StoreError:
    """The error for an endpoint that boto3 does not accept."""
    return StoreError(
        "the address of the store cannot be used",
        kind="unavailable",
        next_step=(
            "Set PIPELINE_LAKE_ENDPOINT_URL to one whose host's name has letters, digits and "
            "dashes only."
        ),
        uri=uri,
    )


def changed(uri: str, found: str) -> StoreError:
    """The error for an object that is not the one that was listed."""
    return StoreError(
        "the object is not the one that was listed",
        kind="mismatch",
        next_step="It was replaced meanwhile, or the store errs: list it again and fetch it anew.",
        uri=uri,
        found=found,
    )


def _refused(error: ClientError, uri: str) -> StoreError:
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = str(error.response.get("Error", {}).get("Code", ""))
    found = str(status) if code in {"", str(status)} else f"{status} {code}"
    if status in {412, 416}:  # no longer this ETag; no longer this long
        return changed(uri, found)
    if status in {401, 403} or code in _NEXT_STEPS:
        return StoreError(
            "the store refuses access",
            kind="forbidden",
            next_step=_NEXT_STEPS.get(code, _CHECK_KEYS),
            uri=uri,
            found=found,
        )
    if status == 404:
        what = "bucket" if code == "NoSuchBucket" else "object"
        return StoreError(
            f"there is no such {what}",
            kind="missing",
            next_step="Check PIPELINE_LAKE_URI, or list the store again.",
            uri=uri,
            found=found,
        )
    if status in _REDIRECTS or code in _WRONG_REGION:
        return StoreError(
            "the bucket is in another region",
            kind="unavailable",
            next_step="Set PIPELINE_LAKE_REGION to the bucket's region.",
            uri=uri,
            found=found,
        )
    return StoreError(
        "the store answers with an error",
        kind="unavailable",
        next_step="Wait a little and run this again; what has come so far is kept.",
        uri=uri,
        found=found,
    )
