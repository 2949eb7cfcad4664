"""Settings from environment variables."""
# ruff: noqa: E501 - messages stand whole

import json
import string
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcnios_daemon.config.environment import variable
from dcnios_daemon.config.load import load
from dcnios_daemon.config.model import DaemonSettings
from dcnios_daemon.core.errors import ConfigError
from tests.unit.config_kinds import Box, Shop, only_test_kinds


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where there is no config/daemon.yaml."""
    monkeypatch.chdir(tmp_path)
    with only_test_kinds():
        yield


def from_environment(**settings: str) -> DaemonSettings:
    return load(environ={f"DCNIOS_{name}": value for name, value in settings.items()})


def shop(settings: DaemonSettings, name: str) -> Shop:
    source = settings.sources[name]
    assert isinstance(source, Shop)
    return source


def box(settings: DaemonSettings, name: str) -> Box:
    run: object = settings.routes[name].run
    assert isinstance(run, Box)
    return run


def mistakes(environ: Mapping[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(environ={"DCNIOS_LIMITS__RATE": "1/s", **environ})
    return str(caught.value).splitlines()


def test_a_daemon_is_configured_without_any_file() -> None:
    settings = from_environment(
        DAEMON__HTTP__PORT="0",
        DAEMON__SHUTDOWN_GRACE="5s",
        SOURCES__HALL_B__KIND="shop",
        SOURCES__HALL_B__ENDPOINT="http://store",
        SOURCES__HALL_B__BUCKETS="[a, b]",
        SOURCES__HALL_B__WATCH__RAW_DATA__RECURSIVE="true",
        ROUTES__TO_GRAY__FROM="[hall-b]",
        ROUTES__TO_GRAY__RATE="20/s",
        ROUTES__TO_GRAY__RETRY="{attempts: 2, on: [script]}",
        ROUTES__TO_GRAY__RUN__KIND="box",
        ROUTES__TO_GRAY__RUN__IMAGE="x",
        ROUTES__TO_GRAY__RUN__SCRIPT="[ -f a ] &&\n\techo {b}",
    )
    assert settings.daemon.http.port == 0
    assert settings.daemon.shutdown_grace == 5
    assert shop(settings, "hall-b").buckets == ("a", "b")
    assert shop(settings, "hall-b").watch["raw-data"].recursive
    route = settings.routes["to-gray"]
    assert (route.sources, route.rate, route.retry.attempts, route.retry.on) == (
        ("hall-b",),
        20,
        2,
        ("script",),
    )
    assert box(settings, "to-gray").script == "[ -f a ] &&\n\techo {b}"


def test_a_variable_finds_the_key_of_the_file_whatever_its_case_and_dashes(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(
        "sources:\n  my-up-loads: {kind: shop, endpoint: a, prefix: b}\n"
        "routes:\n  r: {from: [my-up-loads], run: {kind: box, image: x, env: {Path_A: '1'}, labels: {a-b: c}}}\n"
    )
    settings = load(
        file,
        environ={
            "DCNIOS_SOURCES__MY_UP_LOADS__PREFIX": "c",
            "DCNIOS_ROUTES__R__RUN__ENV__PATH_A": "2",
            "DCNIOS_ROUTES__R__RUN__LABELS__A_B": "d",
        },
    )
    assert list(settings.sources) == ["my-up-loads"]
    assert (shop(settings, "my-up-loads").endpoint, shop(settings, "my-up-loads").prefix) == ("a", "c")
    assert box(settings, "r").env == {"Path_A": "2"}
    assert box(settings, "r").labels == {"a-b": "d"}


def test_names_in_maps_of_texts_stay_as_they_are_written() -> None:
    settings = from_environment(
        SOURCES__A__KIND="hook",
        ROUTES__R__FROM="[a]",
        ROUTES__R__RUN__KIND="box",
        ROUTES__R__RUN__IMAGE="x",
        ROUTES__R__RUN__ENV__OMP_NUM_THREADS="4",
        ROUTES__R__RUN__ENV__lower="true",
        ROUTES__R__RUN__ENV="{FROM_BLOCK: 0755}",
    )
    assert box(settings, "r").env == {"FROM_BLOCK": "0755", "OMP_NUM_THREADS": "4", "lower": "true"}


@pytest.mark.parametrize(
    "text", ["1234", "true", "null", "[1, 2]", "{a: 1}", "#x", "a #b", "'q'", "a: b", "*x", "1e5", " "]
)
def test_where_a_text_is_wanted_the_value_is_taken_as_it_is(text: str) -> None:
    settings = from_environment(
        SOURCES__A__KIND="shop", SOURCES__A__ENDPOINT=text, SOURCES__A__WEBHOOK_TOKEN=f"{text}!"
    )
    assert shop(settings, "a").endpoint == text
    token = shop(settings, "a").webhook_token
    assert token is not None
    assert token.reveal() == f"{text}!"


@pytest.mark.parametrize("text", ["1234", "true", "[1, 2]", "#x", "0x1"])
def test_secrets_may_look_like_anything(text: str) -> None:
    settings = from_environment(
        SOURCES__A__KIND="hook", SOURCES__A__TOKEN=text, DAEMON__HTTP__ADMIN_TOKEN=text
    )
    token = settings.daemon.http.admin_token
    assert token is not None
    assert token.reveal() == text


def test_an_empty_variable_counts_as_not_given() -> None:
    assert from_environment(LIMITS__RATE="", LIMITS__IN_FLIGHT="7").limits.rate == 200


def test_null_takes_a_limit_away() -> None:
    assert from_environment(LIMITS__RATE="null").limits.rate is None


def test_the_longer_name_wins_over_the_block() -> None:
    settings = from_environment(LIMITS="{rate: 1/s, in_flight: 3}", LIMITS__RATE="2/s")
    assert (settings.limits.rate, settings.limits.in_flight) == (2, 3)


def test_a_secret_in_a_variable_replaces_the_files_under_either_name(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text("sources: {a: {kind: hook, token: old}, b: {kind: hook, token_file: /nowhere}}\n")
    (tmp_path / "new").write_text("new")
    settings = load(
        file,
        environ={
            "DCNIOS_SOURCES__A__TOKEN_FILE": str(tmp_path / "new"),
            "DCNIOS_SOURCES__B__TOKEN": "new",
        },
    )
    assert [source.token.reveal() for source in settings.sources.values()] == ["new", "new"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DCNIOS_CONFIG", ""),
        ("DCNIOS_EVENT_FILE", "/dcnios/event.json"),
        ("DCNIOS_ROUTE", "x"),
        ("DCNIOS_KEY", "x"),
        ("DCNIOS_ATTEMPT", "1"),
        ("DCNIOS_TEST_S3_ENDPOINT", "x"),
        ("DCNIOS_STAGE_PLAN", "x"),
        ("DCNIOS_CLIENT_TOKEN_FILE", "x"),
        ("DCNIOS_SERVICE_HOST", "10.0.0.1"),
        ("DCNIOS_SERVICE_PORT_HTTP", "8080"),
        ("DCNIOS_PORT", "tcp://10.0.0.1:8080"),
        ("DCNIOS_DAEMON_PORT", "tcp://10.0.0.1:8080"),
        ("DCNIOS_DAEMON_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ("DCNIOS_DAEMON_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("DCNIOS_DAEMON_SERVICE_PORT", "8080"),
        ("OTHER_DCNIOS_X", "1"),
    ],
)
def test_what_others_put_into_the_environment_is_left_alone(name: str, value: str) -> None:
    assert load(environ={"DCNIOS_LIMITS__RATE": "1/s", name: value}).limits.rate == 1


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"DCNIOS_SOURCE__A__KIND": "x"}, "DCNIOS_SOURCE__A__KIND: no such setting: did you mean DCNIOS_SOURCES__A__KIND?"),
        ({"DCNIOS_DAEMON_HTTP_PORT": "1"}, "DCNIOS_DAEMON_HTTP_PORT: no such setting: two underscores go one level down, DCNIOS_DAEMON__HTTP__PORT"),
        ({"DCNIOS_BUFFER_MAX_EVENTS": "1"}, "DCNIOS_BUFFER_MAX_EVENTS: no such setting: two underscores go one level down, DCNIOS_BUFFER__MAX_EVENTS"),
        ({"DCNIOS_WHATEVER": "1"}, "DCNIOS_WHATEVER: no such setting"),
        ({"DCNIOS_DAEMON____HTTP": "1"}, "DCNIOS_DAEMON____HTTP: no such setting: two underscores go between two names, nowhere else"),
        ({"DCNIOS_DAEMON__HTTP": "x", "DCNIOS_DAEMON__HTTP__PORT": "1"}, "DCNIOS_DAEMON__HTTP__PORT: daemon.http.port: goes below DCNIOS_DAEMON__HTTP, which is no block"),
        ({"DCNIOS_DAEMON__INSTANCE": "x", "DCNIOS_DAEMON__instance": "y"}, "DCNIOS_DAEMON__instance: daemon.instance: is also given by DCNIOS_DAEMON__INSTANCE"),
        ({"DCNIOS_DAEMON__HTTP__PROT": "1"}, "DCNIOS_DAEMON__HTTP__PROT: daemon.http.prot: no such key: did you mean 'port'?"),
        ({"DCNIOS_DAEMON__HTTP__PORT": "x"}, "DCNIOS_DAEMON__HTTP__PORT: daemon.http.port: must be a whole number, not 'x'"),
        ({"DCNIOS_SOURCES__A__KIND": "shop"}, "DCNIOS_SOURCES__A__ENDPOINT: sources.a.endpoint: is missing"),
        ({"DCNIOS_SOURCES__A__PREFIX": "x"}, "DCNIOS_SOURCES__A__KIND: sources.a.kind: is missing: known are shop, hook"),
        ({"DCNIOS_SOURCES__A": "{kind: shop, endpoint: x, buckets: 5}"}, "DCNIOS_SOURCES__A: sources.a.buckets: must be a list: write [5]"),
        ({"DCNIOS_SOURCES__A": "{kind: hook, token: [hush]}"}, "DCNIOS_SOURCES__A: sources.a.token: must be a text, not '**********'"),
    ],
)  # fmt: skip
def test_mistakes_name_the_variable(environ: Mapping[str, str], said: str) -> None:
    assert said in mistakes(environ)


def test_a_mistake_names_the_layer_that_made_it(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text("limits: {rate: x, in_flight: 0}\n")
    with pytest.raises(ConfigError) as caught:
        load(file, environ={"DCNIOS_LIMITS__RATE": "y"})
    assert str(caught.value).splitlines() == [
        f"{file}:1: limits.in_flight: must be above 0, not 0",
        "DCNIOS_LIMITS__RATE: limits.rate: 'y' is no rate above zero: write 20/s, 90/m or 1000/h",
    ]


NAMES = st.from_regex(r"[a-z][a-z0-9]{0,5}(-[a-z0-9]{1,5}){0,2}", fullmatch=True)
TEXTS = st.text(string.printable, min_size=1).filter(str.strip)
ENV_NAMES = st.from_regex(r"[A-Z][A-Za-z0-9]{0,5}(_[A-Za-z0-9]{1,5}){0,2}", fullmatch=True)
SHOPS = st.fixed_dictionaries(
    {"kind": st.just("shop"), "endpoint": TEXTS},
    optional={
        "access_key": TEXTS.filter(lambda text: text not in {"~", "null", "Null", "NULL"}),  # may be null
        "buckets": st.lists(TEXTS, max_size=3),
        "prefix": TEXTS,
        "reconcile": st.integers(0, 86400),
        "watch": st.dictionaries(
            NAMES, st.fixed_dictionaries({"path": TEXTS}, optional={"recursive": st.booleans()}), max_size=2
        ),
    },
)
BOXES = st.fixed_dictionaries(
    {"kind": st.just("box"), "image": TEXTS},
    optional={
        "stage_in": st.booleans(),
        "slurm": st.dictionaries(ENV_NAMES, TEXTS, max_size=3).filter(
            lambda texts: len({name.lower() for name in texts}) == len(texts)
        ),
    },
)


def flat(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from flat(value, (*path, key))
        else:
            yield (*path, key), value


@given(st.dictionaries(NAMES, SHOPS, min_size=1, max_size=3), st.dictionaries(NAMES, BOXES, max_size=2))
def test_what_a_file_can_say_variables_can_say_alone(shops: dict[str, Any], boxes: dict[str, Any]) -> None:
    routes = {
        name: {"from": [next(iter(shops))], "run": run | ({"stage_in": False} if "stage_in" in run else {})}
        for name, run in boxes.items()
    }
    tree = {"sources": shops, "routes": routes}
    environ = {}
    for path, value in flat(tree):
        name = variable(path)
        if "slurm" in path and len(path) > 4:
            name = f"{variable(path[:-1])}__{path[-1]}"
        environ[name] = value if isinstance(value, str) else json.dumps(value)
    given_alone = load(environ=environ)
    assert given_alone == DaemonSettings.model_validate(tree)
