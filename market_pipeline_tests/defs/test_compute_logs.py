from __future__ import annotations

import secrets
import subprocess
import sys
from pathlib import Path

_STEP = """
import sys
from market_pipeline.defs.compute_logs import ComputeLogs
from market_pipeline.scrub.scrubber import learn
learn(sys.stdin.read())
with ComputeLogs(sys.argv[1]).capture_logs(["run", "compute_logs", "step"]):
    learn("learnt-inside-0123")
    print("learnt-inside-0123", sys.argv[2])
"""


def test_more_secrets_than_a_pipe_holds(tmp_path: Path):
    """A step with many secrets begins, though nothing is written yet, and none is shown."""
    lines = [secrets.token_hex(32) for _ in range(600)]
    given = [sys.executable, "-c", _STEP, str(tmp_path), lines[-1]]
    step = subprocess.run(
        given, input="\n".join(lines), capture_output=True, text=True, timeout=60, check=True
    )
    (kept,) = tmp_path.rglob("*.out")
    assert ["[secret] [secret]\n"] * 2 == [step.stdout, kept.read_text()]
