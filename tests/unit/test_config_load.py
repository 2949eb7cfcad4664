"""The configuration as an operator writes it, and what is said when it is wrong: every line, word for word."""
# ruff: noqa: E501 - messages stand whole

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as how
from hypothesis import strategies as st

from dcnios_daemon.config import model
from dcnios_daemon.config.load import load
from dcnios_daemon.config.model import DaemonSettings
from dcnios_daemon.core.errors import ConfigError
from dcnios_daemon.core.event import Action
from dcnios_daemon.core.policy import RetryPolicy
from dcnios_daemon.core.ports import Failure
from dcnios_daemon.core.routing import Rule
from dcnios_daemon.core.settings import Settings
from dcnios_daemon.sources import registry
from tests.unit.config_kinds import SOURCES, Shop, only_test_kinds


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    with only_test_kinds():
        yield


def read(text: str, environ: Mapping[str, str] | None = None, *, files: bool = True) -> DaemonSettings:
    Path("f.yaml").write_text(text)
    return load(Path("f.yaml"), environ=environ or {}, files=files)


def mistakes(text: str, environ: Mapping[str, str] | None = None, *, files: bool = True) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text, environ, files=files)
    assert "hush" not in str(caught.value), "a secret was shown"
    return str(caught.value).splitlines()


WHOLE = """
daemon:
  instance: hall-b
  shutdown_grace: 10s
  http: {host: 0.0.0.0, port: 80, admin_token: hush}
  log: {format: json, level: debug}
buffer: {path: /var/j.db, max_events: 10, max_bytes: 1GiB, resume_at: 0.5, dedupe_for: 1h}
limits: {rate: 10/s, in_flight: null}
sources:
  uploads:
    kind: shop
    endpoint: 10
    access_key: 1234
    watch: {raw: {path: /a}, other: }
    webhook_token: hush
routes:
  gray:
    from: [uploads]
    match: {subject: "a/**", action: [created, moved], attributes: {x: "1*"}, where: {a.b: "?"}}
    rate: 30/m
    in_flight: 3
    weight: 2
    retry: {attempts: 3, backoff: 1s, max_backoff: 1m, on: [script, unknown], exit_codes: [75]}
    batch: {size: 5, wait: 2s}
    payload: cloudevent
    run: {kind: box, image: x, slurm: {time: 00:55:00, account: 0123, gpu: yes, n: 2, flag: true}}
"""


def test_every_key_is_read() -> None:
    settings = read(WHOLE)
    assert settings.daemon.instance == "hall-b"
    assert settings.daemon.shutdown_grace == 10
    assert (settings.daemon.http.host, settings.daemon.http.port) == ("0.0.0.0", 80)
    assert settings.daemon.http.admin_token
    assert settings.daemon.http.admin_token.reveal() == "hush"
    assert (settings.daemon.log.format, settings.daemon.log.level) == ("json", "debug")
    assert settings.buffer == model.Buffer(
        path=Path("/var/j.db"), max_events=10, max_bytes=2**30, resume_at=0.5, dedupe_for=3600
    )
    assert (settings.limits.rate, settings.limits.in_flight, settings.limits.burst) == (10, None, 10)
    route = settings.routes["gray"]
    assert route.rule() == Rule(
        sources=frozenset({"uploads"}),
        subject="a/**",
        actions=frozenset({Action.CREATED, Action.MOVED}),
        attributes={"x": "1*"},
        where={"a.b": "?"},
    )
    assert route.retry.policy() == RetryPolicy(
        attempts=3,
        backoff=1,
        max_backoff=60,
        on=frozenset({Failure.SCRIPT, Failure.UNKNOWN}),
        exit_codes=frozenset({75}),
    )
    assert (route.rate, route.burst, route.in_flight, route.weight) == (0.5, 1, 3, 2)
    assert (route.batch.size, route.batch.wait, route.payload) == (5, 2, "cloudevent")


def test_texts_are_what_was_written_and_empty_blocks_are_blocks() -> None:
    settings = read(WHOLE)
    source = settings.sources["uploads"]
    assert isinstance(source, Shop)
    assert (source.kind, source.endpoint) == ("shop", "10")
    assert source.access_key
    assert source.access_key.reveal() == "1234"
    assert source.watch["other"].path == "/data"
    slurm = settings.routes["gray"].run.slurm
    assert slurm == {"time": "00:55:00", "account": "0123", "gpu": "yes", "n": "2", "flag": "true"}


def test_without_anything_the_defaults_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setattr("socket.gethostname", lambda: "Hall_B.example.org.")
    settings = read("limits:\nbuffer:\n")
    assert settings.daemon.instance == "hall-b.example.org"
    assert settings.daemon.http.host == "127.0.0.1"
    assert settings.buffer.path == Path("state/journal.db")
    assert (settings.buffer.max_events, settings.buffer.max_bytes) == (1_000_000, 2 * 1024**3)
    assert (settings.limits.rate, settings.limits.in_flight) == (200, 500)


def test_the_journal_goes_where_systemd_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/dcnios:/var/lib/other")
    assert read("").buffer.path == Path("/var/lib/dcnios/journal.db")


@pytest.mark.parametrize(("rate", "burst"), [("20/s", 20), ("2.5", 2), ("1/h", 1), ("null", 1)])
def test_a_burst_is_one_seconds_worth(rate: str, burst: float) -> None:
    text = (
        f"sources: {{a: {{kind: hook}}}}\nroutes: {{r: {{from: [a], rate: {rate}, run: {{kind: nothing}}}}}}"
    )
    assert read(text).routes["r"].burst == burst


def test_everything_that_is_wrong_is_said_at_once() -> None:
    text = """
daemon:
  http: {port: 80800, admin_tokn: hush}
  instance: hall b!
  log: {level: loud, format: jsn}
buffer: {resume_at: 1, max_events: 0, max_bytes: 2 gigs, dedupe_for: long, path: [hush]}
limits: 5
sources:
  uploads: {kind: shop, buckets: inbox, webhook_token: {a: hush}, prefix: p}
  Bad_Name: {kind: hook}
  typo: {kind: shp, endpoint: hush}
  none:
  text: shop
  both: {kind: shop, endpoint: e, secret_key: hush, secret_key_file: /x}
  hook: {kind: hook, token: ""}
routes:
  grayify:
    from: [uploadz, uploads]
    rate: 20 per second
    run: {kind: box, imge: x, env: {A: "{{ event."}, stage_in: 5}
  second:
    from: []
    match: {action: [created, exploded], subject: [a]}
    retry: {attempts: 0, on: [script, bogus], exit_codes: [0]}
    weight: 0
    run: {kind: nothing, image: x}
  third: {from: [hook], burst: 0.5, in_flight: 1.5, payload: both, batch: {size: x}}
  fourth: {from: [nobody], run: {kind: kafka}}
  hook: {from: hook, run: {kind: box, image: x, script: a, script_file: b}}
"""
    assert mistakes(text) == [
        "f.yaml:3: daemon.http.admin_tokn: no such key: did you mean 'admin_token'?",
        "f.yaml:3: daemon.http.port: must be at most 65535, not 80800",
        "f.yaml:4: daemon.instance: 'hall b!' is no label: write up to 63 letters, digits, '-', '_' and '.', the first and the last a letter or digit",
        "f.yaml:5: daemon.log.format: 'jsn' is not known here: did you mean 'json'?",
        "f.yaml:5: daemon.log.level: 'loud' is not known here: known are debug, info, warning, error",
        "f.yaml:6: buffer.dedupe_for: 'long' is no duration: write 30s, 5m, 1h30m or 2d",
        "f.yaml:6: buffer.max_bytes: '2 gigs' is no size: write 512MiB, 2GiB or a number of bytes",
        "f.yaml:6: buffer.max_events: must be above 0, not 0",
        "f.yaml:6: buffer.path: must be a path, not a list",
        "f.yaml:6: buffer.resume_at: must be below 1, not 1",
        "f.yaml:7: limits: must be a block of keys, not 5",
        "f.yaml:9: sources.uploads.buckets: must be a list: write [inbox]",
        "f.yaml:9: sources.uploads.endpoint: is missing",
        "f.yaml:9: sources.uploads.webhook_token: must be a text, not '**********'",
        "f.yaml:10: sources.Bad_Name: 'Bad_Name' is no name: write up to 31 small letters, digits and '-', the first a letter",
        "f.yaml:11: sources.typo.kind: 'shp' is no kind of source: did you mean 'shop'?",
        "f.yaml:12: sources.none.kind: is missing: known are shop, hook",
        "f.yaml:13: sources.text: must be a block of keys, not 'shop'",
        "f.yaml:14: sources.both: give secret_key or secret_key_file, not both",
        "f.yaml:15: sources.hook.token: a secret is a non-empty text",
        "f.yaml:18: routes.grayify.from.0: 'uploadz' is no source: did you mean 'uploads'?",
        "f.yaml:19: routes.grayify.rate: '20 per second' is no rate above zero: write 20/s, 90/m or 1000/h",
        "f.yaml:20: routes.grayify.run.env.A: no template: expected name or number",
        "f.yaml:20: routes.grayify.run.image: is missing",
        "f.yaml:20: routes.grayify.run.imge: no such key: did you mean 'image'?",
        "f.yaml:20: routes.grayify.run.stage_in: must be true or false, not 5",
        "f.yaml:22: routes.second.from: must not be empty",
        "f.yaml:23: routes.second.match.action.1: 'exploded' is not known here: known are created, moved, removed, staged, message",
        "f.yaml:23: routes.second.match.subject: must be a text, not a list",
        "f.yaml:24: routes.second.retry.attempts: must be above 0, not 0",
        "f.yaml:24: routes.second.retry.exit_codes.0: must be above 0, not 0",
        "f.yaml:24: routes.second.retry.on.1: 'bogus' is not known here: known are infrastructure, script, deadline, unknown",
        "f.yaml:25: routes.second.weight: must be above 0, not 0",
        "f.yaml:26: routes.second.run.image: no such key: known are kind",
        "f.yaml:27: routes.third.batch.size: must be a whole number, not 'x'",
        "f.yaml:27: routes.third.burst: must be at least 1, not 0.5",
        "f.yaml:27: routes.third.in_flight: must be a whole number, not 1.5",
        "f.yaml:27: routes.third.payload: 'both' is not known here: known are original, cloudevent, reference",
        "f.yaml:27: routes.third.run: is missing",
        "f.yaml:28: routes.fourth.from.0: 'nobody' is no source: known are uploads, Bad_Name, typo, none, text, both, hook",
        "f.yaml:28: routes.fourth.run.kind: 'kafka' is no kind of run: known are box, nothing",
        "f.yaml:29: routes.hook.from: must be a list: write [hook]",
        "f.yaml:29: routes.hook.run: give one of script, script_file, or command with args",
    ]


def test_parts_that_do_not_fit_each_other() -> None:
    text = """
sources:
  uploads: {kind: shop, endpoint: e}
  broken: {kind: shop}
  hook: {kind: hook}
routes:
  a:
    from: [uploads, hook]
    batch: {size: 2}
    run:
      kind: box
      image: x
      stage_in: true
      stage_out:
        one: {to: "s3://b/", using: hook}
        two: {to: "s3://b/", using: upload}
        three: {to: "s3://b/", using: uploads}
        four: {to: "s3://b/", using: broken}
"""
    assert mistakes(text) == [
        "f.yaml:4: sources.broken.endpoint: is missing",
        "f.yaml:13: routes.a.run.stage_in: fetches the object of one event: set batch.size to 1, or stage_in to false",
        "f.yaml:13: routes.a.run.stage_in: source 'hook' is of kind hook, which has no objects to fetch",
        "f.yaml:15: routes.a.run.stage_out.one.using: source 'hook' is of kind hook, which is no store to write to",
        "f.yaml:16: routes.a.run.stage_out.two.using: 'upload' is no source: did you mean 'uploads'?",
    ]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "hall-b"])
def test_whoever_can_be_reached_needs_tokens(host: str) -> None:
    text = f"""
daemon: {{http: {{host: "{host}"}}}}
sources:
  uploads: {{kind: shop, endpoint: e}}
  silent: {{kind: shop, endpoint: e, receive: [listen]}}
  hook: {{kind: hook}}
  safe: {{kind: hook, token: x}}
"""
    assert mistakes(text) == [
        f"f.yaml:2: daemon.http.admin_token: is missing: {host} can be reached from other machines",
        f"f.yaml:4: sources.uploads.webhook_token: is missing: {host} can be reached from other machines",
        f"f.yaml:6: sources.hook.token: is missing: {host} can be reached from other machines",
    ]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_none(host: str) -> None:
    assert read(f'{{daemon: {{http: {{host: "{host}"}}}}, sources: {{hook: {{kind: hook}}}}}}').sources


def test_a_key_must_outlive_what_a_source_may_meet_again() -> None:
    text = """
sources:
  a: {kind: shop, endpoint: e, reconcile: 1h}
  b: {kind: shop, endpoint: e, reconcile: 10m}
buffer: {dedupe_for: 3h}
"""
    (said,) = mistakes(text)
    assert said == (
        "f.yaml:5: buffer.dedupe_for: 3h is too short: source 'a' may meet an event again after 3h: "
        "write more than that, and the longest outage on top"
    )
    assert read(text.replace("3h", "4h")).buffer.dedupe_for == 4 * 3600
    (said,) = mistakes(text.replace("1h", "11d").replace("3h", "30d"))
    assert "source 'a' may meet an event again after 33d" in said


def test_files_that_are_named_must_be_there() -> None:
    Path("empty").write_text("\n")
    Path("latin").write_bytes(b"\xe9")
    Path("good").write_text("x\n")
    text = """
daemon: {http: {admin_token_file: nowhere}}
sources:
  a: {kind: shop, endpoint: e, access_key_file: empty, secret_key_file: latin, ca_file: /proc, webhook_token_file: good}
routes:
  r: {from: [a], run: {kind: box, image: x, script_file: s.sh}}
"""
    assert mistakes(text) == [
        "f.yaml:2: daemon.http.admin_token_file: nowhere cannot be read: No such file or directory",
        "f.yaml:4: sources.a.access_key_file: empty is empty",
        "f.yaml:4: sources.a.ca_file: /proc cannot be read: Is a directory",
        "f.yaml:4: sources.a.secret_key_file: latin is not UTF-8 text",
        "f.yaml:6: routes.r.run.script_file: s.sh cannot be read: No such file or directory",
    ]
    assert read(text, files=False).routes, "files are not looked at where that is not wanted"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "f.yaml: cannot be read: No such file or directory"),
        (b"a: \xe9\n", "f.yaml: is not UTF-8: byte 3 is 0xe9"),
        (
            b"a: [1\n",
            "f.yaml:2: not YAML: expected ',' or ']', but got '<stream end>', while parsing a flow sequence",
        ),
        (
            b"sources: {a: {kind: hook}, a: {kind: hook}}\n",
            "f.yaml:1: sources.a: is given twice, first in line 1",
        ),
        (b"source: {}\n", "f.yaml:1: source: no such key: did you mean 'sources'?"),
    ],
)
def test_a_file_that_is_none(content: bytes | None, said: str) -> None:
    if content is not None:
        Path("f.yaml").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(Path("f.yaml"), environ={})
    assert str(caught.value) == said


def test_where_the_file_is_looked_for() -> None:
    with pytest.raises(ConfigError) as caught:
        load(environ={"DCNIOS_DAEMON_PORT": "tcp://10.0.0.1:80"})
    assert str(caught.value) == (
        "config/daemon.yaml: there is none: name a file with --config or DCNIOS_CONFIG, or set variables"
    )
    assert load(environ={"DCNIOS_LIMITS__IN_FLIGHT": "1"}).limits.in_flight == 1
    Path("config").mkdir()
    Path("config/daemon.yaml").write_text("limits: {in_flight: 2}")
    assert load(environ={}).limits.in_flight == 2
    Path("other.yaml").write_text("limits: {in_flight: 3}")
    assert load(environ={"DCNIOS_CONFIG": "other.yaml"}).limits.in_flight == 3
    assert load(Path("config/daemon.yaml"), environ={"DCNIOS_CONFIG": "other.yaml"}).limits.in_flight == 2


def test_a_kind_registered_later_is_known() -> None:
    class Later(Settings):
        word: str

    later = registry.SourceKind(settings=Later, build=SOURCES["hook"].build)
    with mock.patch.object(registry, "KINDS", SOURCES | {"later": later}):
        assert read("sources: {a: {kind: later, word: x}}").sources["a"].kind == "later"
        assert mistakes("sources: {a: {kind: later}}") == ["f.yaml:1: sources.a.word: is missing"]
    assert mistakes("sources: {a: {kind: later}}") == [
        "f.yaml:1: sources.a.kind: 'later' is no kind of source: known are shop, hook"
    ]


def test_one_mistake_is_one_line_whatever_it_quotes() -> None:
    assert mistakes('limits: {rate: "a\\n\\tb"}') == [
        r"f.yaml:1: limits.rate: 'a\n\tb' is no rate above zero: write 20/s, 90/m or 1000/h"
    ]


WORDS = """
daemon http port host admin_token admin_token_file buffer path max_bytes limits rate sources routes a b shop hook box
kind endpoint watch from match action attributes retry on exit_codes batch size run image env script stage_in stage_out
to using pod command resources cpu
"""
KEYS = st.sampled_from(WORDS.split())
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
    | st.sampled_from(["shop", "hook", "box", "nothing", "5m", "20/s", "a", "{{", "created"])
)  # fmt: skip
TREES = st.recursive(
    LEAVES,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(KEYS, below, max_size=6),
    max_leaves=25,
)
BLOCKS = st.fixed_dictionaries(
    {},
    optional={
        "daemon": TREES,
        "limits": TREES,
        "extra": TREES,
        "sources": TREES | st.dictionaries(KEYS, TREES | st.dictionaries(KEYS, TREES)),
        "routes": TREES | st.dictionaries(KEYS, TREES | st.dictionaries(KEYS, TREES)),
    },
)


@given(BLOCKS, BLOCKS)
@how(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_is_written_is_settings_or_mistakes_with_their_places(tree: Any, other: Any) -> None:
    Path("f.yaml").write_text(json.dumps(tree))
    environ = {
        f"DCNIOS_{block.upper()}": json.dumps(value) for block, value in other.items() if block != "extra"
    }
    said = ""
    try:
        load(Path("f.yaml"), environ=environ)
    except ConfigError as error:
        said = str(error)
    assert all(re.match(r"f\.yaml:1: |DCNIOS_", line) for line in said.splitlines()), said
