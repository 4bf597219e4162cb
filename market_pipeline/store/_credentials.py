"""With which credentials the store is asked: the environment, the secrets, or the usual AWS chain.

They go from there into boto3 and nowhere else: no error, log line or repr of this package has them.
"""

from __future__ import annotations

import logging
import time
from threading import Lock
from typing import Any

import boto3
from botocore.credentials import Credentials, ReadOnlyCredentials, RefreshableCredentials

from market_pipeline.config.settings import store_credentials
from market_pipeline.errors import SettingsError
from market_pipeline.scrub.scrubber import learn

__all__ = ["credentials_kind", "learn_credentials", "session"]

# At DEBUG it logs the headers of every request, which hold signatures and session tokens.
logging.getLogger("botocore").setLevel(logging.INFO)

_LOG = logging.getLogger(__name__)
_ANEW_S = 60.0

_KINDS = {
    "env": "the environment",
    "shared-credentials-file": "the AWS credentials file",
    "config-file": "the AWS configuration file",
    "iam-role": "the role of this machine",
    "container-role": "the role of this container",
    "assume-role": "an assumed role",
    "assume-role-with-web-identity": "an assumed role",
    "sso": "an AWS single sign-on",
    "custom-process": "the program that the AWS configuration names",
}


def session() -> boto3.Session:
    """A session with the keys or the profile of `.env`, of the folder or the provider of secrets,
    or of the AWS chain if they have none.

    If the environment names a key or a profile, they are not asked: half of each would be a pair
    that nobody meant.

    Raises:
        botocore.exceptions.ProfileNotFound: The profile does not exist.
    """
    given, _ = store_credentials()
    made = boto3.Session(
        aws_access_key_id=given.get("AWS_ACCESS_KEY_ID"),
        aws_secret_access_key=given.get("AWS_SECRET_ACCESS_KEY"),
        aws_session_token=given.get("AWS_SESSION_TOKEN"),
        profile_name=given.get("AWS_PROFILE"),
    )
    if {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} <= given.keys():
        core: Any = made._session  # it takes keys, and has no option for what gives them
        core._credentials = _Rotated(given)
    return made


class _Rotated(Credentials):
    """The keys as the secrets have them now, read again each minute in which a request is signed.

    A pair that is not whole, or that cannot be read, leaves the one of before.
    """

    def __init__(self, given: dict[str, str]) -> None:
        key, secret = given["AWS_ACCESS_KEY_ID"], given["AWS_SECRET_ACCESS_KEY"]
        super().__init__(key, secret, given.get("AWS_SESSION_TOKEN"), "explicit")
        self._reading = Lock()
        self._until_s = time.monotonic() + _ANEW_S

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        with self._reading:
            if time.monotonic() >= self._until_s:
                self._until_s = time.monotonic() + _ANEW_S
                self._read()
            return super().get_frozen_credentials()

    def _read(self) -> None:
        try:
            given, _ = store_credentials()
        except (OSError, SettingsError) as error:
            _LOG.warning("the keys of before are used for the store: %s", type(error).__name__)
            return
        key, secret = given.get("AWS_ACCESS_KEY_ID"), given.get("AWS_SECRET_ACCESS_KEY")
        if key and secret:
            self.access_key, self.secret_key = key, secret
            self.token = given.get("AWS_SESSION_TOKEN")
            learn(key, secret, self.token)


def learn_credentials(of: boto3.Session) -> None:
    """Has the keys of a session taken out of every text, wherever they come from.

    Those that the session gets anew by itself are asked for when they are needed: their token is
    learnt from the requests.
    """
    credentials = of.get_credentials()
    if credentials is not None and not isinstance(credentials, RefreshableCredentials):
        learn(credentials.access_key, credentials.secret_key, credentials.token)


def credentials_kind(of: boto3.Session) -> str | None:
    """Where a session has its credentials from, in words that show none; None without any."""
    credentials = of.get_credentials()
    if credentials is None:
        return None
    if credentials.method == "explicit":
        return store_credentials()[1]
    return _KINDS.get(credentials.method, str(credentials.method))
