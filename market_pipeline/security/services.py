"""Key services of other packages, such as a vault's or a cloud's, which wrap files' keys."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

from market_pipeline.config.entry_points import entry_point_of
from market_pipeline.errors import SealError, SettingsError
from market_pipeline.security.segments import FILE_KEY_BYTES

__all__ = ["KEY_SERVICES_GROUP", "KeyService", "key_service"]

KEY_SERVICES_GROUP = "market_pipeline.key_services"


class KeyService(Protocol):
    """A key that lies in a service; both calls raise whatever they like where it refuses.

    The context is no secret, and of no other file: what was wrapped with one is not to be opened
    with another, as by the associated data of AES-GCM.
    """

    def wrap(self, file_key: bytes, context: bytes) -> bytes:
        """A file's key of 32 bytes, wrapped; at most some kilobytes."""
        ...

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """What was wrapped."""
        ...


@lru_cache(maxsize=16)
def key_service(name: str) -> KeyService:
    """A key of a service by `SERVICE` or `SERVICE:KEY`: an entry point, and what it is called with.

    Its calls raise `SealError` where the service raises, or opens what is no key of a file.

    Raises:
        SettingsError: No package brings that service, several do, or it does not begin.
    """
    service, _, key = name.partition(":")
    entry = entry_point_of(KEY_SERVICES_GROUP, service, "key service")
    try:
        return _Guarded(name, entry.load()(key))
    except Exception as error:  # whatever it is
        text = f"the key service {service} does not begin: {type(error).__name__}: {error}"
        raise SettingsError([text]) from error


class _Guarded:
    """A service whose errors are ours: what it raises is anybody's."""

    def __init__(self, name: str, service: KeyService) -> None:
        self._name, self._service = name, service

    def wrap(self, file_key: bytes, context: bytes) -> bytes:
        return self._answer(lambda: self._service.wrap(file_key, context))

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        file_key = self._answer(lambda: self._service.unwrap(wrapped, context))
        if len(file_key) != FILE_KEY_BYTES:
            raise self._refusal(f"{len(file_key)} bytes, where a file's key has {FILE_KEY_BYTES}")
        return file_key

    def _answer(self, call: Callable[[], bytes]) -> bytes:
        try:
            return bytes(call())
        except Exception as error:  # whatever it is
            raise self._refusal(f"{type(error).__name__}: {error}") from error

    def _refusal(self, found: str) -> SealError:
        return SealError(
            "A key service did not do what it was asked for",
            next_step="Look after the service and what it is reached by; nothing was changed.",
            expected="a file's key, wrapped or opened",
            found=f"its service {self._name}: {found}",
        )
