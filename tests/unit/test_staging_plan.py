"""What the daemon asks of stores for an order, and what it hands to the stager."""

from collections.abc import Mapping

import pytest

from dcnios_daemon.core.errors import OrderRefused, StoreError, StoreUnavailable
from dcnios_daemon.core.ports import Download, Order, Store, Upload
from dcnios_daemon.sinks.spec import ContainerRun
from dcnios_daemon.staging.plan import Outlet, StagingPlan, make_plan, needs_staging, validity
from dcnios_daemon.staging.s3 import S3Settings, S3Store
from tests.unit.process_rig import order


class _Store:
    def __init__(self, error: Exception | None = None) -> None:
        self.asked: list[tuple[str, float]] = []
        self.error = error

    async def download(self, subject: str, *, valid_for: float) -> Download:
        return Download(url=self._note(subject, valid_for))

    async def upload(self, target: str, *, valid_for: float) -> Upload:
        return Upload(method="PUT", url=self._note(target, valid_for))

    def _note(self, what: str, valid_for: float) -> str:
        if self.error:
            raise self.error
        self.asked.append((what, valid_for))
        return what

    async def aclose(self) -> None: ...


def _run(**fields: object) -> ContainerRun:
    return ContainerRun.model_validate({"script": "true", **fields})


async def _plan(
    order: Order, run: ContainerRun, stores: Mapping[str, Store], valid_for: float = 60
) -> StagingPlan:
    return await make_plan(order, run, stores, source=order.events[0].source, valid_for=valid_for)


async def test_with_a_secret_the_plan_says_where_keys_lie_and_none_of_them() -> None:
    settings = {"endpoint": "http://s:9000", "region": "eu-1", "access_key": "A-KEY", "secret_key": "hush"}
    stores: dict[str, Store] = {"up": S3Store(S3Settings.model_validate(settings)), "drop": _Store()}
    out = {"to": "s3://b/{{ event.stem }}", "credentials": "secret", "secret": "outbox-keys"}
    plan = await _plan(order("in/x.txt"), _run(stage_out={"a": {**out, "using": "up"}}), stores)
    assert plan.uploads[0].upload == Upload(
        method="S3",
        url="http://s:9000/b",
        prefix="x/",
        region="eu-1",
        keys="/dcnios-credentials/outbox-keys",
    )
    assert StagingPlan.decode(plan.encode()) == plan
    assert b"A-KEY" not in plan.encode()
    with pytest.raises(OrderRefused, match=r"stage_out\.a: 'drop' is no S3 store"):
        await _plan(order("in/x.txt"), _run(stage_out={"a": {**out, "using": "drop"}}), stores)


async def test_input_from_the_source_and_outputs_where_the_templates_say() -> None:
    drop, other = _Store(), _Store()
    run = _run(
        stage_in=True,
        stage_out={
            "a": {"to": "x:{{ event.stem }}/", "using": "other", "suffix": [".png"]},
            "b": {"to": "x:plain/", "using": "drop", "prefix": ["p"]},
        },
    )
    plan = await _plan(order("in/x.txt"), run, {"drop": drop, "other": other})
    assert drop.asked == [("in/x.txt", 60), ("x:plain/", 60)]
    assert other.asked == [("x:x/", 60)]
    assert plan.local_name == "x.txt"
    assert [(out.name, out.upload.url, out.prefix, out.suffix) for out in plan.uploads] == [
        ("a", "x:x/", (), (".png",)),
        ("b", "x:plain/", ("p",), ()),
    ]
    assert StagingPlan.decode(plan.encode()) == plan


async def test_nothing_is_asked_for_what_is_not_staged() -> None:
    run = _run()
    assert not needs_staging(run)
    assert await _plan(order(), run, {}) == StagingPlan()


async def test_leave_lasts_for_the_deadline_and_at_most_seven_days() -> None:
    drop = _Store()
    await _plan(order(), _run(stage_in=True), {"drop": drop}, valid_for=validity(30 * 86400))
    assert drop.asked[0][1] == 7 * 86400
    assert validity(600) > 600


async def test_unknown_stores_missing_fields_and_batches_are_refused() -> None:
    with pytest.raises(OrderRefused, match="'drop' is no source with a store"):
        await _plan(order(), _run(stage_in=True), {})
    run = _run(stage_out={"a": {"to": "{{ event.nothing }}", "using": "drop"}})
    with pytest.raises(OrderRefused, match=r"stage_out\.a\.to"):
        await _plan(order(), run, {"drop": _Store()})
    two = Order(route="r", attempt=1, events=order().events * 2, payload=b"")
    with pytest.raises(OrderRefused, match=r"batch\.size"):
        await _plan(two, _run(stage_in=True), {"drop": _Store()})


@pytest.mark.parametrize("error", [StoreUnavailable("away"), StoreError("no")])
async def test_a_stores_own_error_is_told_as_it_is(error: StoreError) -> None:
    with pytest.raises(type(error)) as caught:
        await _plan(order(), _run(stage_in=True), {"drop": _Store(error)})
    assert caught.value.retryable is error.retryable


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"download": {}}', b"\xff"])
def test_what_is_no_plan_is_told_so(raw: bytes) -> None:
    with pytest.raises(StoreError, match="plan cannot be read"):
        StagingPlan.decode(raw)


@pytest.mark.parametrize(
    ("prefix", "suffix", "taken"),
    [
        ((), (), ["a.png", "plots/b.png", "c.txt"]),
        ((), (".png",), ["a.png", "plots/b.png"]),
        (("plots/", "c"), (), ["plots/b.png", "c.txt"]),
        (("plots/",), (".txt",), []),
    ],
)
def test_filters(prefix: tuple[str, ...], suffix: tuple[str, ...], taken: list[str]) -> None:
    outlet = Outlet(name="o", upload=Upload(method="PUT", url="u"), prefix=prefix, suffix=suffix)
    assert [name for name in ("a.png", "plots/b.png", "c.txt") if outlet.takes(name)] == taken
