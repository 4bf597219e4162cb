from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
from pathlib import Path
from market_pipeline.config.settings import load_settings
from market_pipeline.telemetry.metrics import recording, table
from market_pipeline.telemetry.traces.work import begin_run, current, end_run, working

settings = load_settings(data_dir=Path.cwd(), metrics=False, traces=False)
recording.begin(settings, "run")
recording.record(table.CATALOGUE_DURATION, 1.0)
recording.flush()
begin_run(settings, "r", "", "j")
with working("step", step="s"):
    print(current().run, current().step)
end_run()
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""


def test_off(tmp_path: Path):
    """Without the settings no figure and no trace is kept, and nothing of the SDK is loaded."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert ("r s\n[]\n", []) == (ran.stdout, [*tmp_path.iterdir()])
