"""What is asked of MinIO's stream, and how it is cut into lines."""

from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcnios_daemon.core.errors import Malformed, StoreUnavailable
from dcnios_daemon.sources.minio.listen import LONGEST_LINE, Lines, query
from dcnios_daemon.sources.minio.records import read_line, read_notification
from dcnios_daemon.sources.minio.settings import MinioSettings
from tests.contract.source_rig import NAME
from tests.unit.s3_samples import minio_body


def asked(**settings: Any) -> list[tuple[str, str]]:
    given = {"endpoint": "http://s3.example", "buckets": ["inbox"], "receive": ["listen"]} | settings
    return [pair for pair in query(MinioSettings.model_validate(given)) if pair[0] != "ping"]


@pytest.mark.parametrize(
    ("globs", "names"),
    [
        (["s3:ObjectCreated:*"], ["s3:ObjectCreated:*"]),
        (["s3:ObjectCreated:Put", "s3:ObjectRemoved:*"], ["s3:ObjectCreated:Put", "s3:ObjectRemoved:*"]),
        (["s3:ObjectCreated:P*", "s3:ObjectCreated:[A-C]*"], ["s3:ObjectCreated:*"]),
        (["s3:Object[CR]*"], ["s3:ObjectAccessed:*", "s3:ObjectCreated:*", "s3:ObjectRemoved:*",
                              "s3:ObjectRestore:*", "s3:ObjectTransition:*"]),
        (["s3:Sonstiges:*"], ["s3:Sonstiges:*"]),
    ],
)  # fmt: skip
def test_globs_are_asked_for_in_the_names_that_minio_knows(globs: list[str], names: list[str]) -> None:
    assert asked(events=globs) == [("events", name) for name in names]


@pytest.mark.parametrize(
    ("prefix", "suffix", "filters"),
    [
        ("", "", {}),
        ("raw/", ".png", {"prefix": "raw/", "suffix": ".png"}),
        ("ab", "bc", {"prefix": "ab"}),  # "abc" begins and ends so, but MinIO's ab*bc leaves it out
        ("a.png", ".png", {"prefix": "a.png"}),
        ("a\\b", ".", {}),
        ("../x", "a/..", {}),
        ("x" * 1025, "é" * 513, {}),
    ],
)
def test_only_filters_that_minio_reads_as_we_do_are_left_to_it(
    prefix: str, suffix: str, filters: dict[str, str]
) -> None:
    found = dict(asked(prefix=prefix, suffix=suffix))
    del found["events"]
    assert found == filters


@given(prefix=st.text("ab", max_size=4), suffix=st.text("ab", max_size=4), key=st.text("ab", max_size=8))
def test_what_minio_leaves_out_is_left_out_by_us_too(prefix: str, suffix: str, key: str) -> None:
    filters = dict(asked(prefix=prefix, suffix=suffix))
    minio_tells = fnmatchcase(key, f"{filters.get('prefix', '')}*{filters.get('suffix', '')}")
    assert minio_tells or not (key.startswith(prefix) and key.endswith(suffix))


@given(
    lines=st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line)),
    cuts=st.lists(st.integers(0, 400)),
)
def test_lines_are_the_same_whatever_the_pieces(lines: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    splitter, found = Lines(), []
    for start, end in pairwise(places):
        found += splitter.feed(stream[start:end])
    assert [line.strip() for line in found] == [line.strip() for line in lines if line.strip()]


def test_years_of_blanks_take_no_memory_and_no_line_is_endless() -> None:
    lines = Lines()
    for _ in range(2 * LONGEST_LINE // 1000):
        assert lines.feed(b" " * 1000) == []
    assert lines.feed(b'{"Records":null}\n') == [b'{"Records":null}']
    for _ in range(LONGEST_LINE // 1000):
        lines.feed(b"x" * 1000)
    with pytest.raises(StoreUnavailable, match="line of over"):
        lines.feed(b"x" * 1000)


@pytest.mark.parametrize("key", ["a b+c%2F#d?.txt", "100%", "\N{CAT FACE}", "+", "%2B"])
def test_a_line_says_the_same_as_the_webhook_though_its_key_is_not_quoted(key: str) -> None:
    body = minio_body(key)
    quoted = read_notification(body)[0]
    at_the_wire = body.replace(b'"key":"' + _quoted(body), b'"key":"' + key.encode())
    heard = read_line(at_the_wire)[0]
    assert heard.event(source=NAME, kind="minio").key == quoted.event(source=NAME, kind="minio").key
    assert heard.data == quoted.data
    assert (heard.key, heard.via) == (key, "listen")


def _quoted(body: bytes) -> bytes:
    return body.partition(b'"key":"')[2].partition(b'"')[0]


def test_a_ping_tells_nothing() -> None:
    assert read_line(b'{"Records":null}') == read_line(b'{"Records":[]}') == read_line(b"{}") == []


@pytest.mark.parametrize(
    "line",
    [b"<html>", b"[]", b'{"Records":[{}]}', b'{"Records":[{"s3":{"object":{"key":7}}}]}',
     b'{"Records":[{"s3":{"object":[]}}]}', b'{"Records":[7]}', b'{"Records":' + b"[" * 100_000],
)  # fmt: skip
def test_a_line_that_is_no_notification_is_told(line: bytes) -> None:
    with pytest.raises(Malformed):
        read_line(line)
