"""The recipe for dCache's billing records: what of them is a finished upload."""

from pathlib import Path
from typing import Any

import pytest

from dcnios_daemon.cli.common import compile_runs
from dcnios_daemon.config.load import load
from dcnios_daemon.core.clock import SystemClock
from dcnios_daemon.core.event import Event
from dcnios_daemon.core.templating import compile_text, context
from dcnios_daemon.sources.kafka.records import Reader
from tests.fakes import billing

RECIPE = Path(__file__).parents[2] / "config/examples/dcache-billing-to-job.yaml"
WANTED, OTHERS = billing.samples()


class OnTopic:
    """A record as the client library gives it."""

    topic, partition, timestamp, key, headers = "billing", 0, 1_763_889_330_123, None, ()

    def __init__(self, value: bytes, offset: int = 7) -> None:
        self.value = value
        self.offset = offset


def event(record: dict[str, Any], *, offset: int = 7) -> Event:
    reader = Reader(source="billing", instance="hall-b", clock=SystemClock())
    return reader.event(OnTopic(billing.encoded(record), offset))


def routes(record: dict[str, Any]) -> tuple[str, ...]:
    settings = load(RECIPE, environ={}, files=False, further=compile_runs)
    return settings.router().routes(event(record))


@pytest.mark.parametrize("record", WANTED, ids=lambda record: f"{record['billingPath']}-{record['isWrite']}")
def test_a_finished_upload_takes_the_route(record: dict[str, Any]) -> None:
    assert routes(record) == ("uploaded",)


@pytest.mark.parametrize("number", range(len(OTHERS)))
def test_whatever_else_dcache_tells_does_not(number: int) -> None:
    assert routes(OTHERS[number]) == (), OTHERS[number]


def test_every_kind_of_record_that_dcache_writes_was_tried() -> None:
    tried = {record["msgType"] for record in OTHERS}
    assert tried == {"request", "transfer", "remove", "store", "restore", "hit", "warning"}


def test_the_path_reaches_the_script_as_an_url() -> None:
    settings = load(RECIPE, environ={}, files=False, further=compile_runs)
    values = context(event(WANTED[1]), route="uploaded", attempt=1)
    env = {
        name: compile_text(text, where=name)(values)
        for name, text in settings.routes["uploaded"].run.env.items()  # type: ignore[attr-defined]
    }
    assert env["FILE_URL"] == "https://dcache.example.org:2880/data/raw/deep/b%20c%2B%E2%82%AC%23%25.h5"
    assert env["FILE_SIZE"] == "1048576"


def test_both_services_on_are_two_events_as_the_recipe_warns() -> None:
    assert event(WANTED[0], offset=7).key != event(WANTED[0], offset=8).key
