"""Records accesses in the audit log of a data folder, as `PIPELINE_AUDIT` says.

What changes something is recorded before it is done, and not done if it cannot be recorded. A read
that cannot be, as by a user who may only read the folder, is warned of once, unless `required`.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import pwd
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from threading import Lock
from typing import Any

import msgspec
from pydantic import BaseModel, SecretStr

from market_pipeline.audit.chain import Action, ChainKey
from market_pipeline.audit.log import AuditLog
from market_pipeline.audit.verify import Fault
from market_pipeline.config.security import Auditing, SecuritySettings
from market_pipeline.config.settings import FIELDS, Settings, load_settings
from market_pipeline.errors import AuditError, MarketPipelineError, SettingsError
from market_pipeline.warehouse.layout import make_private_folder, written_whole
from market_pipeline.warehouse.locks import locking

__all__ = ["AUDIT_FOLDER", "acting_as", "anchor", "chain_key", "record"]
__all__ += ["outdated_settings", "record_files", "record_settings"]

_LOG = logging.getLogger(__name__)

AUDIT_FOLDER = "audit"
"""Where the log lies below the data folder."""

_SETTINGS = "settings.json"
_REFUSED: frozenset[Action] = frozenset({"write", "delete", "key", "secret"})
_FLUSHED: frozenset[Action] = frozenset({"delete", "key", "secret", "settings"})
# What sensors, schedules and a timer look up again and again is nobody's access.
_LOOKING = {"dagster", "health"}
_Digests = dict[str, str]


class _State(msgspec.Struct, frozen=True):
    """The hashes of a component's settings, and a code over them, with the key of the log."""

    digests: _Digests
    code: str


_states = msgspec.json.Decoder(dict[str, _State])


class _Process:
    """What this process is, and the logs it has open; a fork begins with none."""

    def __init__(self) -> None:
        self.component, self.why = "python", ""
        self.forget()

    def forget(self) -> None:
        self.opening = Lock()
        self.modes: dict[Path, Auditing] = {}
        self.logs: dict[Path, AuditLog] = {}
        self.warned: set[Path] = set()


_process = _Process()
os.register_at_fork(after_in_child=_process.forget)


def acting_as(component: str, why: str = "") -> None:
    """Sets what this process is in entries; a verb that loads Dagster's code stays a verb."""
    if component != "dagster" or _process.component == "python":
        _process.component, _process.why = component, why


def chain_key(settings: SecuritySettings, data_dir: Path) -> ChainKey:
    """The key of the audit log, from the master key; without one, codes are plain hashes.

    Raises:
        SettingsError: The master key cannot be read.
    """
    if not (settings.master_key or settings.master_key_file or settings.master_passphrase):
        return ChainKey()
    from market_pipeline.security.master import master_key  # noqa: PLC0415 # some tenths of a second
    from market_pipeline.security.ring import KEYS_FOLDER  # noqa: PLC0415

    master = master_key(settings, data_dir / KEYS_FOLDER)
    return ChainKey() if master is None else ChainKey.derived(master)


def record(
    data_dir: Path, action: Action, what: Mapping[str, Any], *, why: str | None = None
) -> None:
    """Adds an entry to the log of a data folder.

    Args:
        data_dir: Whose data; of a folder that is not there nothing is read, and nothing recorded.
        action, what: As of `Entry`.
        why: The id of a run; by default the verb.

    Raises:
        AuditError: It could not be written, and the access is refused therefore.
    """
    folder = data_dir.absolute()
    mode = _mode(folder)
    component = _process.component if why is None else "run"
    if mode == "off" or (action not in _REFUSED and not folder.is_dir()):
        return
    if action == "read" and component in _LOOKING:
        return
    try:
        _log(folder).append(
            component, _process.why if why is None else why, action, what, flush=action in _FLUSHED
        )
    except (OSError, MarketPipelineError) as error:
        _refuse_or_warn(folder, error, is_refused=mode == "required" or action in _REFUSED)


def record_files(data_dir: Path, action: Action, table: str, files: Iterable[Path]) -> None:
    """As `record`, of files that no table names: an entry for each folder, with their names."""
    for folder, inside in groupby(sorted(files), lambda file: file.parent):
        names = [file.name for file in inside]
        record(data_dir, action, {"table": table, "folder": str(folder), "files": names})


def anchor(data_dir: Path) -> dict[str, Any] | None:
    """Folder, sequence and code of the last entry, to be kept elsewhere; None without a log.

    Raises:
        AuditError: The log cannot be read.
    """
    folder = data_dir.absolute()
    if _mode(folder) == "off":
        return None
    try:
        sequence, code = _log(folder).last()
    except (OSError, MarketPipelineError) as error:
        _refuse_or_warn(folder, error, is_refused=True)
        return None
    where = str(folder / AUDIT_FOLDER)
    return {"folder": where, "sequence": sequence, "code": code} if sequence else None


def record_settings(settings: Settings) -> None:
    """Records which settings differ from those that this component last began with.

    The log has their names and hashes of their values, of secrets one that needs the key; without a
    key it says of a secret only that it is set. Of `PIPELINE_AUDIT=off` that is the last entry.

    Raises:
        AuditError: With `required`, that could not be recorded.
    """
    folder = settings.data_dir
    is_off = settings.audit == "off"
    if not (folder / AUDIT_FOLDER if is_off else folder).is_dir():
        return
    try:
        path, of = folder / AUDIT_FOLDER / _SETTINGS, _process.component
        key = chain_key(settings, folder)
        now = _State(digests := _digests(settings, key), _code(key, of, digests))
        if not _changes(path, of, key, now, is_off=is_off):
            return
        make_private_folder(path.parent)
        with locking(path.parent):  # one that starts at the same time keeps its hashes there, too
            what = _changes(path, of, key, now, is_off=is_off)
            if what:
                _log(folder).append(of, _process.why, "settings", what, flush=True)
                with written_whole(path) as file:
                    file.write(msgspec.json.encode({**_read_states(path), of: now}))
    except (OSError, MarketPipelineError) as error:
        _refuse_or_warn(folder, error, is_refused=settings.audit == "required")


def _changes(path: Path, of: str, key: ChainKey, now: _State, *, is_off: bool) -> dict[str, Any]:
    """What an entry says of changed settings, and of hashes that somebody else wrote.

    Of a log that is off, and was at the last start, only the latter is worth one.
    """
    before = _read_states(path).get(of, _State({}, ""))
    changed = dict(before.digests.items() ^ now.digests.items())
    what: dict[str, Any] = {}
    if changed:
        pairs = {
            name: [before.digests.get(name), now.digests.get(name)] for name in sorted(changed)
        }
        what["changed"] = pairs
    if before.digests and before.code != _code(key, of, before.digests):
        what["before"] = "not proven: written without the key of now, or by somebody else"
    return {} if is_off and "audit" not in changed and "before" not in what else what


def outdated_settings(
    data_dir: Path, recorded: Mapping[str, Mapping[str, str | None]]
) -> list[Fault]:
    """What the next start of a component is compared with, where the log has other settings of it.

    Args:
        data_dir: Whose log.
        recorded: As of `Verified.settings`.
    """
    states = _read_states(data_dir / AUDIT_FOLDER / _SETTINGS)
    return [
        Fault("settings", f"of {component} the log has other hashes: {', '.join(names)}", _SETTINGS)
        for component, newest in sorted(recorded.items())
        for kept in [states.get(component, _State({}, "")).digests]
        if (names := [name for name in sorted(newest) if newest[name] != kept.get(name)])
    ]


def _read_states(path: Path) -> dict[str, _State]:
    with suppress(FileNotFoundError, msgspec.DecodeError):
        return _states.decode(path.read_bytes())
    return {}


def _code(key: ChainKey, component: str, digests: _Digests) -> str:
    return key.code(f"settings of {component}", msgspec.json.encode(sorted(digests.items())))


def _digests(settings: Settings, key: ChainKey) -> _Digests:
    """By name, the hash of each setting that some source gives."""
    digests = {}
    for name in FIELDS:
        section, _, inner = name.rpartition("__")
        of: BaseModel = getattr(settings, section) if section else settings
        if inner not in of.model_fields_set:
            continue
        value = getattr(of, inner)
        secrets = [
            each.get_secret_value()
            for each in (value if isinstance(value, tuple) else (value,))
            if isinstance(each, SecretStr)
        ]
        if not secrets:
            digests[name] = hashlib.sha256(f"{name}={value!r}".encode()).hexdigest()[:16]
        elif key.secret is None:
            digests[name] = "set"
        else:
            text = f"{name}={secrets!r}".encode(errors="surrogateescape")
            digests[name] = hmac.digest(key.secret, text, "sha256").hex()[:16]
    return digests


def _mode(folder: Path) -> Auditing:
    """The setting, as the process found it first; unusable settings record what they can."""
    if folder not in _process.modes:
        mode: Auditing = "on"
        with suppress(SettingsError):
            mode = (settings := load_settings()).audit
            if mode == "off" and settings.data_dir == folder:
                record_settings(settings)  # also of a process that is no verb
        _process.modes[folder] = mode
    return _process.modes[folder]


def _log(folder: Path) -> AuditLog:
    with _process.opening:
        if folder not in _process.logs:
            try:
                settings = load_settings()
            except SettingsError:
                key = ChainKey()
            else:
                key = chain_key(settings, folder)
            _process.logs[folder] = AuditLog(folder / AUDIT_FOLDER, key, _user())
        return _process.logs[folder]


def _user() -> str:
    with suppress(KeyError):
        return pwd.getpwuid(os.geteuid()).pw_name
    return str(os.geteuid())


def _refuse_or_warn(folder: Path, error: Exception, *, is_refused: bool) -> None:
    if is_refused:
        raise AuditError(
            "An access could not be recorded, and is refused therefore",
            next_step="Let this user write there, or free the disk; PIPELINE_AUDIT=off records "
            "nothing.",
            file=folder / AUDIT_FOLDER,
            found=str(error),
        ) from error
    if folder not in _process.warned:
        _process.warned.add(folder)
        _LOG.warning("Reads of %s are not in its audit log: %s", folder, error)
