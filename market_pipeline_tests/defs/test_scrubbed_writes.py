"""What a run leaves below DAGSTER_HOME, with the project's own configuration of the instance."""

import os
import sys

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import TickData, TickStatus
from dagster._utils.error import SerializableErrorInfo

from market_pipeline.scrub.scrubber import learn
from market_pipeline_tests.scrub.written import leaks, ways

SECRETS = ("Zq8-planted/secret+7=x", "a pass phrase, 'of' \"words\"")
GUESSED = "hunter2-never-learnt"
WRITTEN = [text for secret in SECRETS for _, text in ways(secret)]


@dg.op(config_schema={"name": str})
def leaking(context) -> None:
    """Puts secrets wherever a step can put a text."""
    for number, text in enumerate(WRITTEN):
        context.log.info(text)
        print(text)  # noqa: T201
        os.write(sys.stderr.fileno(), f"native {text}\n".encode())
        context.add_output_metadata({f"m{number}": text, text[:40]: dg.MetadataValue.json([text])})
    sys.stderr.write(f"password={GUESSED}\n")
    context.log.warning(f"https://user:{GUESSED}@host/")
    try:
        raise ValueError(WRITTEN[0])
    except ValueError as error:
        raise RuntimeError(" ".join(WRITTEN)) from error


@dg.job
def leak() -> None:
    """One step."""
    leaking()


@pytest.fixture
def instance(dagster_home):
    """An instance as the project configures it."""
    with dg.DagsterInstance.get() as made:
        yield made


def test_nothing_of_a_failed_run(instance, tmp_path, capfd):
    """Config, tags, events, errors, metadata, ticks and output of a step hold no secret."""
    learn(*SECRETS)
    result = leak.execute_in_process(
        instance=instance,
        run_config={"ops": {"leaking": {"config": {"name": SECRETS[0]}}}},
        tags={"note": SECRETS[0], "twice": SECRETS[1]},
        raise_on_error=False,
    )
    error = SerializableErrorInfo(SECRETS[0], [f"line {text}\n" for text in WRITTEN], "ValueError")
    data = TickData("origin", "sensor", InstigatorType.SENSOR, TickStatus.FAILURE, 1.0, error=error)
    instance.create_tick(data)
    printed = capfd.readouterr()
    home = tmp_path / "home"
    (home / "printed").write_text(printed.out + printed.err)
    assert (False, []) == (result.success, leaks([*SECRETS, GUESSED], [home]))
    kept = [path.read_text() for path in home.rglob("*.out")] + [printed.out]
    assert [len(WRITTEN)] * 2 == [text.count("[secret]") for text in kept]


def test_a_run_is_read_back_as_it_was(instance):
    """Dagster reads runs and events that hold no known secret exactly as without us."""
    config = {"ops": {"leaking": {"config": {"name": "plain"}}}}
    run = leak.execute_in_process(
        instance=instance, run_config=config, tags={"a": "b"}, raise_on_error=False
    )
    kept = instance.get_run_by_id(run.run_id)
    assert (config, "b", dg.DagsterRunStatus.FAILURE) == (
        kept.run_config,
        kept.tags["a"],
        kept.status,
    )
