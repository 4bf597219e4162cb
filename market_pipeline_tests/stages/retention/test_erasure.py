"""Facts about what is recorded of a removal, and in which order the files of a day go."""

from __future__ import annotations

from pathlib import Path

import pytest

from market_pipeline.audit.record import AUDIT_FOLDER
from market_pipeline.audit.verify import read_entries
from market_pipeline.errors import AuditError
from market_pipeline.stages.retention.prune import Candidate, Planned, carry_out
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline_tests.stages.raw.test_inventory import BTC
from market_pipeline_tests.stages.retention.test_prune import KEEP_10, OLD, Fetched


@pytest.fixture
def due(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Fetched:
    """An old day that was fetched and published."""
    monkeypatch.setattr(
        "market_pipeline.stages.retention.prune.refresh_catalogue", lambda warehouse: None
    )
    made = Fetched(folder)
    made.day(OLD)
    return made


def test_slots_go_before_the_sealed_file(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """At whatever moment a removal ends, a sealed file that is left has no slots any more."""
    (folder / "day").mkdir()
    paths = [folder / "day" / name for name in ("one", "two")]  # a day names them plain
    for path in paths:
        Path(f"{path}.sealed").touch()
        Path(f"{path}.sealed.keys").touch()
    removed: list[str] = []
    unlink = Path.unlink

    def noted(path: Path, **options: bool) -> None:
        removed.extend([path.name] if path.exists() else [])
        unlink(path, **options)

    monkeypatch.setattr(Path, "unlink", noted)
    raw = Candidate(*("raw", "book", BTC.id, OLD, 2, 0), paths=tuple((path, 0) for path in paths))
    assert [] == carry_out([Planned(raw, True, "old")], Warehouse(folder / "data"))
    assert ["one.sealed.keys", "two.sealed.keys"] == sorted(removed[:2])
    assert ["one.sealed", "two.sealed"] == sorted(removed[2:])


def test_each_removal_is_recorded(due: Fetched):
    """The log has each day and file that goes."""
    planned = due.plan(KEEP_10)
    carry_out(planned, due.warehouse)
    entries = [*read_entries(due.warehouse.data_dir / AUDIT_FOLDER)]
    deleted = [each.what for each in entries if each.action == "delete"]
    going = [each.candidate for each in planned if each.goes]
    assert {"raw", "derived"} == {each.kind for each in going} == {each["kind"] for each in deleted}
    assert {str(path) for each in going for path, _ in each.paths} == {
        path for each in deleted for path in each.get("files", ())
    }


def test_what_cannot_be_recorded_stays(due: Fetched):
    """A removal that the log does not take is not done."""
    planned = due.plan(KEEP_10)
    before = (due.published(), sorted(due.lake.rglob("*")))
    (due.warehouse.data_dir / AUDIT_FOLDER).touch()
    with pytest.raises(AuditError):
        carry_out(planned, due.warehouse)
    assert before == (due.published(), sorted(due.lake.rglob("*")))
