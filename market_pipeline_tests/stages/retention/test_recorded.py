from __future__ import annotations

import json
from datetime import timedelta

import pytest

from market_pipeline.security.sealing import seal_in_place
from market_pipeline.security.stored import is_stored
from market_pipeline.stages.retention.prune import Retention
from market_pipeline_tests.security.keys import use_keys
from market_pipeline_tests.stages.raw.test_inventory import key
from market_pipeline_tests.stages.retention.test_prune import OLD, TODAY, Fetched, decided


@pytest.fixture
def fetched(folder) -> Fetched:
    return Fetched(folder)


class TestRecordings:
    @pytest.fixture
    def recorded(self, fetched):
        """Two recorded days, of which one was converted: the folder of that one, and its shard."""
        for day in (OLD, OLD + timedelta(days=1)):
            file = fetched.lake / "recording/BINANCE/BTCUSDT" / f"{day}" / "01_host_s_0.recording"
            file.parent.mkdir(parents=True)
            file.write_bytes(b"abcd")
        source = fetched.settings.data_dir / "converted" / "recording"
        shard = source / key(day=OLD)
        shard.parent.mkdir(parents=True)
        shard.write_bytes(b"xyz")
        record = source / "made" / "exchange=BINANCE" / "symbol=BTC-USDT" / f"dt={OLD}.json"
        record.parent.mkdir(parents=True)
        path = f"recording/BINANCE/BTCUSDT/{OLD}/01_host_s_0.recording"
        files = [{"path": path, "bytes": 4, "sha256": "5" * 64}]
        record.write_text(json.dumps({"format": 1, "files": files, "made": [[key(day=OLD), 3]]}))
        return fetched.lake / "recording/BINANCE/BTCUSDT" / f"{OLD}", shard

    def decided(self, fetched, **more):
        planned = fetched.plan(Retention(TODAY, keep_recording_days=10, **more))
        return decided([each for each in planned if each.candidate.kind == "recording"])

    def test_a_converted_day_goes(self, fetched, recorded):
        """It goes once it is old, what was made of it stays, and the day that was not made."""
        folder, shard = recorded
        assert [] == decided(fetched.plan(Retention(TODAY)))
        assert [("recording", OLD, True), ("recording", OLD + timedelta(days=1), False)] == (
            self.decided(fetched)
        )
        fetched.prune(Retention(TODAY, keep_recording_days=10))
        left = [path.name for path in folder.parent.iterdir()]
        assert ([f"{OLD + timedelta(days=1)}"], True) == (left, shard.exists())
        # And then what was made is the last copy.
        assert [("raw", OLD, False)] == decided(fetched.plan(Retention(TODAY, keep_raw_days=10)))

    def test_sealed_files_go_as_plain_ones(self, fetched, recorded, monkeypatch):
        """Sealed recordings and what was made of them are the same candidates, and go whole."""
        folder, shard = recorded
        both = Retention(TODAY, keep_raw_days=10, keep_recording_days=10)
        before = fetched.plan(both)
        ring = use_keys(monkeypatch, fetched.settings.data_dir, "captures", "raw")
        for file in folder.parent.rglob("*.recording"):
            seal_in_place(file, ring, "captures")
        seal_in_place(shard, ring, "raw")
        assert before == fetched.plan(both)
        fetched.prune(Retention(TODAY, keep_recording_days=10))
        assert (False, True) == (folder.exists(), is_stored(shard))
        fetched.prune(Retention(TODAY, keep_raw_days=10, also_last_copies=True))
        assert [] == list(shard.parent.iterdir())

    @pytest.mark.parametrize("change", ["open", "strange", "other", "unmade", "golden"])
    def test_stays(self, fetched, recorded, change):
        """A day with an open, a strange or another file, without what was made, or of a sample."""
        folder, shard = recorded
        names = {"open": "02_host_s_0.recording.partial", "strange": "notes.txt"}
        if change == "unmade":
            shard.unlink()
        elif change == "golden":
            (fetched.lake / "manifest.json").touch()
        else:
            (folder / names.get(change, "02_host_s_0.recording")).touch()
        assert ("recording", OLD, False) == self.decided(fetched)[0]
        if change in {"open", "strange", "golden"}:
            asked = self.decided(fetched, also_last_copies=True)
            assert ("recording", OLD, False) == asked[0]

    def test_one_of_both_stays(self, fetched, recorded):
        """If what was made of it is due too, that goes, and the recording stays."""
        both = Retention(TODAY, keep_raw_days=10, keep_recording_days=10)
        fetched.prune(both)
        folder, shard = recorded
        assert (True, False) == (any(folder.iterdir()), shard.exists())
