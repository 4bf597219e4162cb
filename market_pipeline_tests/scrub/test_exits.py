from __future__ import annotations

import io
import logging
import sys

import pytest

from market_pipeline.scrub.exits import scrub_exits
from market_pipeline.scrub.scrubber import learn

SECRET = "Zq8-planted/secret+7"


@pytest.fixture(autouse=True)
def known():
    """A secret that this process knows."""
    learn(SECRET)


def test_prints(monkeypatch):
    """What is printed holds no secret, whoever prints it."""
    streams = io.StringIO(), io.StringIO()
    for name, stream in zip(("stdout", "stderr"), streams, strict=True):
        monkeypatch.setattr(sys, name, stream)
    scrub_exits()
    sys.stdout.writelines([f"{SECRET}\n"])
    sys.stderr.write(f"x{SECRET}y")
    assert ("[secret]\n", "x[secret]y") == tuple(each.getvalue() for each in streams)


def test_logs():
    """A record of any logger has none in its message, its arguments and its traceback."""
    scrub_exits()
    out = io.StringIO()
    logger = logging.getLogger("library.of.somebody")
    handler = logging.StreamHandler(out)
    logger.addHandler(handler)
    try:
        logger.error("sent %s", SECRET)
        try:
            raise ValueError(f"a login: {SECRET}")
        except ValueError:
            logger.exception("failed")
    finally:
        logger.removeHandler(handler)
    text = out.getvalue()
    assert (2, False, True) == (text.count("[secret]"), SECRET in text, "Traceback" in text)


def test_records_without_any_are_left_alone(caplog):
    """A record that holds no secret keeps its arguments and its error."""
    scrub_exits()
    error = ValueError("plain")
    logging.getLogger("library").warning("%s of %d", "a", 2, exc_info=error)
    (record,) = caplog.records
    assert ("%s of %d", ("a", 2), error) == (record.msg, record.args, record.exc_info[1])
