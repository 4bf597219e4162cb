"""A pipeline's whole life with planted secrets: what it leaves is looked through byte by byte."""

from __future__ import annotations

import base64
import itertools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from market_pipeline.sources.simulated import simulate
from market_pipeline_tests.defs.workspace import Workspace, days_arguments
from market_pipeline_tests.scrub.written import leaks, ways
from market_pipeline_tests.sources.simulated.days import DAY, instrument

pytestmark = pytest.mark.slow

MASTER_KEY = base64.b64encode(bytes(range(200, 232))).decode()
PASSPHRASE = "Eight-hundred \"green\" & 'blue' boats"
LAKE_ID, LAKE_KEY = "AKEYID77PLANTED", "wJalr/XUtn+FEMI=K7MDENG.planted"
TOKEN = "T0Kplanted7hook"
LOGIN, PASSWORD = "hook-user7", "p4ss/w0rd+planted"
MAIL_PASSWORD = "m4il planted; and long"
OTHER = "somebody-elses-t0ken"
PLANTED = (MASTER_KEY, PASSPHRASE, LAKE_ID, LAKE_KEY, TOKEN, PASSWORD, MAIL_PASSWORD, OTHER)

# What fails together in a run: what one instrument meets, which is recorded in tables and the run
# goes on, and what ends it.
STAGES = (
    ("stages.raw.register._looked_at",),
    (
        "stages.raw.profile._scan",
        "stages.validation.day._located",
        "stages.metrics.book_metrics._read",
        "stages.metrics.trades._stage",
    ),
    ("stages.rebuild.day.rebuild_instrument", "stages.validation.day._validate_instrument"),
    ("defs.raw.assets.profile_day",),
    ("defs.books.assets.rebuild_day",),
    ("warehouse.publish._write_commit",),
)
_next_text = itertools.cycle(text for secret in PLANTED for _, text in ways(secret))


def fail(*_: object, **__: object) -> None:
    """Raises, logs and prints secrets, each time written in other ways."""
    texts = list(itertools.islice(_next_text, 40))
    print(*texts)  # noqa: T201
    sys.stderr.write(f"{texts[-1]}\n")
    try:
        raise ValueError(texts[0])
    except ValueError as error:
        raise RuntimeError(" ".join(texts)) from error


def fail_at_each(*stages: tuple[str, ...]) -> None:
    """Runs the day, as the console script does, each time with other stages failing."""
    from market_pipeline.cli.main import main

    for together in stages:
        sys.argv = ["market-pipeline", *days_arguments(DAY), "--force"]
        with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
            for stage in together:
                patch.setattr(f"market_pipeline.{stage}", fail)
            main()


class Repeating(BaseHTTPRequestHandler):
    """A store and a receiver that repeats in its answer all that it was sent."""

    def do_GET(self) -> None:
        sent = f"{self.path}\n{self.headers}\n{LAKE_KEY}"
        text = f"<Error><Code>AccessDenied</Code><Message>{sent}</Message></Error>".encode()
        self.send_response(403, TOKEN)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_POST = do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Nothing: the test's output is not what is looked through."""


@contextmanager
def repeating() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Repeating)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()


def test_every_byte(tmp_path: Path):
    """Of a good day, of failures at every stage, at a store and at receivers of alerts, of a run of
    Dagster's own and of the verbs that show them, no file and no line of output holds a secret.
    """
    simulated = instrument("AAA-USD")
    small = {"messages_per_day": 3_000, "snapshot_interval_s": 20.0}
    simulate(tmp_path / "lake", [simulated], DAY, DAY, **small)
    with repeating() as host:
        hook = f"http://{LOGIN}:{PASSWORD.replace('/', '%2F')}@{host}/services/{TOKEN}?sig=1"
        work = Workspace(
            tmp_path / "pipeline",
            tmp_path / "lake",
            start_date=DAY,
            more={
                "PIPELINE_TRACES": "true",
                "PIPELINE_MASTER_KEY": MASTER_KEY,
                "PIPELINE_ALERT_WEBHOOK_URLS": hook,
                "PIPELINE_ALERT_SLACK_URLS": hook.replace("services", "slack"),
                "PIPELINE_ALERT_ALERTMANAGER_URLS": hook.partition("/services")[0],
                "PIPELINE_ALERT_EMAIL_TO": "night@there.example",
                "PIPELINE_ALERT_EMAIL_SERVER": "smtp://127.0.0.1:1",
                "PIPELINE_ALERT_EMAIL_PASSWORD": MAIL_PASSWORD,
                "PIPELINE_ALERT_ATTEMPTS": "1",
                "AWS_ACCESS_KEY_ID": LAKE_ID,
                "AWS_SECRET_ACCESS_KEY": LAKE_KEY,
                "SOMEBODYS_TOKEN": OTHER,
                # Ours beside the key is refused, as at the end.
                "SOMEBODYS_PASSPHRASE": PASSPHRASE,
            },
        )
        work.configure(simulated)
        assert work.run_days(DAY).exit_code in {0, 1}
        work.call(fail_at_each, *STAGES).finish()
        # Dagster's own command, whose console is not ours.
        materialized = work.command(
            *("dagster", "asset", "materialize", "-m", "market_pipeline.definitions"),
            *("--select", "raw_book_deltas", "--partition", f"{DAY}"),
            *(
                "--config-json",
                f'{{"resources": {{"pipeline": {{"config": {{"instruments": ["{TOKEN}"]}}}}}}}}',
            ),
        )
        (work.root / "materialized").write_text(materialized.stdout + materialized.stderr)
        work.run("alerts", "test")
        for verb in (["doctor"], ["doctor", "--json"], ["alerts", "receivers"], ["keys", "list"]):
            work.run(*verb)
        days = ("--start-date", f"{DAY}", "--end-date", f"{DAY}")
        work.run("verdict", *days, "--json")
        work.run("report", *days)
        work.more |= {
            "PIPELINE_LAKE_URI": "s3://bucket/lake",
            "PIPELINE_LAKE_ENDPOINT_URL": f"http://{host}",
            "PIPELINE_LAKE_REGION": "us-east-1",
        }
        work.run_days(DAY, None, "--force")
        work.run("doctor", "--json")
        work.more |= {"PIPELINE_MASTER_PASSPHRASE": PASSPHRASE}
        work.run("keys", "list")
        work.run_days(DAY)
        work.more |= {"PIPELINE_LAKE_URI": f"s3://{LAKE_ID}:{LAKE_KEY}@bucket/lake"}
        refused = work.run("inventory")
    assert 2 == refused.exit_code
    text = "".join(file.read_text() for file in work.root.glob("*.*"))
    assert "[secret]" in text
    logged = {path.name.partition("-")[0] for path in (work.data_dir / "logs").iterdir()}
    assert {"run", "dagster", "errors.jsonl"} <= logged
    traces = "".join(file.read_text() for file in (work.data_dir / "traces").glob("*.jsonl"))
    assert "RuntimeError: " in traces and "[secret]" in traces
    assert [] == leaks(PLANTED, [work.root])
