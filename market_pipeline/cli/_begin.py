"""What every verb begins with: it is recorded, and refused where disks have to be encrypted."""

from __future__ import annotations

from collections.abc import Sequence

from market_pipeline.scrub.guessed import MARK, is_secret_name
from market_pipeline.scrub.scrubber import scrubbed

__all__ = ["begin"]

# They touch no data, and must leave a folder as they find it. `access` records what it does: what
# root writes before, the runner could not append to.
_LEAVING_ALL = {"access", "audit", "doctor", "logs"}
# It looks from a timer whether all is well, and has to do so where nothing can be recorded.
_UNRECORDED = {*_LEAVING_ALL, "health"}
# They say what is wrong, or are needed to move away from a plain disk.
_ON_ANY_DISK = {*_UNRECORDED, "keys"}


def begin(verb: str, arguments: Sequence[str]) -> None:
    """Records that a verb begins, and which settings it found changed.

    Without usable settings nothing is recorded: what needs them fails, and says why; the log has
    it, as far as they say where.

    Raises:
        SettingsError: A folder lies on a plain disk, and the settings want none.
        AuditError: Accesses have to be recorded, and this one cannot be.
    """
    from market_pipeline.audit.record import acting_as, record, record_settings
    from market_pipeline.config.env_copies import note_copies
    from market_pipeline.config.settings import usable_settings
    from market_pipeline.telemetry.logs import process_log

    note_copies()
    acting_as("health" if verb == "health" else "cli", verb)
    if verb in _LEAVING_ALL:
        return
    settings, problems = usable_settings()
    process_log.begin(settings, verb)
    if verb in _UNRECORDED or problems:
        return
    if settings.require_encrypted_disk and verb not in _ON_ANY_DISK:
        from market_pipeline.doctor.folders import written_to
        from market_pipeline.security.disks import require_encrypted

        require_encrypted(written_to(settings.data_dir))
    record_settings(settings)
    what = {"verb": verb, "arguments": _without_secrets(verb, arguments)}
    record(settings.data_dir, "verb", what)


def _without_secrets(verb: str, arguments: Sequence[str]) -> list[str]:
    """Arguments before they are checked: a value given by mistake would stay in the log for ever.

    `secrets` takes none by the command line, so what is not its word or the name is withheld.
    """
    if verb == "secrets":
        names = [each.partition("=") for each in arguments[:2]]
        return [
            *(f"{name}={MARK}" if equals else name for name, equals, _ in names),
            *(MARK for _ in arguments[2:]),
        ]
    return [
        MARK if before.startswith("-") and is_secret_name(before) else scrubbed(each)
        for before, each in zip(("", *arguments), arguments, strict=False)
    ]
