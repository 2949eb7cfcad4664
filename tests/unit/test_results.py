"""What a result says, of which deliveries there is one, and how it is asked for."""

import json
from pathlib import Path

import msgspec
import pytest

from dcnios_daemon.config.load import load
from dcnios_daemon.core.errors import ConfigError
from dcnios_daemon.core.event import cloudevent
from dcnios_daemon.core.payload import PayloadForm
from dcnios_daemon.core.ports import Delivery, Failure, Outcome, State
from dcnios_daemon.core.results import ResultRule

AT = 1_700_000_000.0
OUTCOME = Outcome(
    order="gray-0123",
    failure=Failure.SCRIPT,
    exit_code=3,
    reason="Error",
    message="no such file \udcff" + "x" * 5000,
    started=AT - 2,
    ended=1e300,
    pod="gray-0123-abc",
    node="n1",
    log_tail="secret words",
)
DELIVERY = Delivery(
    id=17,
    route="gray",
    state=State.DEAD,
    attempt=2,
    key="ab" * 20,
    source="uploads",
    kind="minio",
    subject="inbox/a.png",
    action="created",
    time=AT - 60,
    size=5,
    accepted=AT - 50,
    claimed=AT - 5,
    submitted=AT - 4,
    settled=None,
    retry_at=None,
    order="gray-0123",
    outcome=OUTCOME,
)
RULE = ResultRule(instance="hall-b")


def test_a_result_says_it_all() -> None:
    admission = RULE.admission(DELIVERY, AT)
    assert admission is not None
    assert admission.routes == ("results",)
    event = cloudevent(admission.event)
    data = event.pop("data")
    assert event == {
        "specversion": "1.0",
        "id": admission.event.key,
        "source": "/dcnios/results",
        "type": "dcnios.delivery.dead",
        "subject": "inbox/a.png",
        "time": "2023-11-14T22:13:20.000Z",
        "partitionkey": DELIVERY.key,
        "datacontenttype": "application/json",
    }
    message = data["outcome"].pop("message")
    assert message.startswith("no such file ?xxx")
    assert len(message) == 1000
    assert data == {
        "instance": "hall-b",
        "delivery": 17,
        "key": DELIVERY.key,
        "route": "gray",
        "source": "uploads",
        "subject": "inbox/a.png",
        "attempt": 2,
        "order": "gray-0123",
        "outcome": {
            "state": "dead",
            "failure": "script",
            "exit_code": 3,
            "reason": "Error",
            "start": "2023-11-14T22:13:18.000Z",
            "end": None,
            "pod": "gray-0123-abc",
            "node": "n1",
        },
        "times": {
            "event": "2023-11-14T22:12:20.000Z",
            "accepted": "2023-11-14T22:12:30.000Z",
            "claimed": "2023-11-14T22:13:15.000Z",
            "submitted": "2023-11-14T22:13:16.000Z",
            "settled": "2023-11-14T22:13:20.000Z",
        },
    }
    json.dumps(data).encode()


def test_each_end_of_each_delivery_of_each_daemon_has_an_id_of_its_own() -> None:
    def key(rule: ResultRule, **other: object) -> str:
        admission = rule.admission(msgspec.structs.replace(DELIVERY, **other), AT)
        assert admission is not None
        return admission.event.key

    same = key(RULE)
    assert same == key(RULE, state=State.SUCCEEDED)  # an attempt ends once
    others = {key(RULE, attempt=3), key(RULE, route="x"), key(RULE, id=18), key(RULE, key="00" * 20)}
    assert len({same, *others, key(ResultRule(instance="hall-c"))}) == 6


@pytest.mark.parametrize(
    ("rule", "route", "state", "wanted"),
    [
        (RULE, "gray", State.SUCCEEDED, True),
        (RULE, "results", State.SUCCEEDED, False),
        (ResultRule(instance="i", routes=frozenset({"gray"})), "gray", State.DEAD, True),
        (ResultRule(instance="i", routes=frozenset({"gray"})), "train", State.DEAD, False),
        (ResultRule(instance="i", of=frozenset({State.DEAD})), "gray", State.DEAD, True),
        (ResultRule(instance="i", of=frozenset({State.DEAD})), "gray", State.SUCCEEDED, False),
    ],
)
def test_only_what_is_asked_for_is_told(rule: ResultRule, route: str, state: State, *, wanted: bool) -> None:
    delivery = msgspec.structs.replace(DELIVERY, route=route, state=state)
    assert (rule.admission(delivery, AT) is not None) is wanted


BASE = """
sources: {drop: {kind: directory, path: inbox}}
routes: {r: {from: [drop], run: {kind: dry-run}}}
"""


def test_results_are_a_route_of_their_own(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(BASE + "results: {rate: 5/s, run: {kind: dry-run}}")
    settings = load(file, environ={"DCNIOS_RESULTS__OF": '["dead"]'})
    assert list(settings.sendings) == ["r", "results"]
    assert settings.results is not None
    assert (settings.results.burst, settings.results.payload) == (5, PayloadForm.CLOUDEVENT)
    assert settings.results.rule("i").of == {State.DEAD}
    assert settings.run_kinds() == {"dry-run"}


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(
        BASE.replace("{drop: ", "{results: {kind: directory, path: x}, drop: ").replace(
            "{r: ", "{results: {from: [drop], run: {kind: dry-run}}, r: "
        )
        + "results: {routes: [s], of: [dropped], run: {kind: process, script: x, stage_in: true}}"
    )
    with pytest.raises(ConfigError) as caught:
        load(file, environ={})
    said = str(caught.value)
    assert "sources.results: is a name for what `results` makes: give it another" in said
    assert "routes.results: is a name for what `results` makes: give it another" in said
    assert "results.of.0: 'dropped' is not known here: known are succeeded, dead" in said
    file.write_text(BASE + "results: {routes: [s], run: {kind: process, script: x, stage_in: true}}")
    with pytest.raises(ConfigError) as caught:
        load(file, environ={})
    assert "results.routes.0: 's' is no route: did you mean 'r'?" in str(
        caught.value
    ) or "known are r" in str(caught.value)
    assert "results.run.stage_in: fetches the object of an event, and a result has none" in str(caught.value)
