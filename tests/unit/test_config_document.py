"""YAML as people mean it, with a place for every value."""
# ruff: noqa: E501 - messages stand whole

import pytest

from dcnios_daemon.config.document import read_yaml, scalar


def mistakes(text: str) -> list[str]:
    return [str(mistake) for mistake in read_yaml(text, "f.yaml").mistakes]


def test_only_true_and_false_are_booleans_and_only_decimal_numbers_are_numbers() -> None:
    text = "{on: [created], y: yes, n: no, o: off, t: true, T: False, i: -5, f: 1.5, e: 1e3, z: ~, v: }"
    assert read_yaml(text, "").values == {
        "on": ["created"],
        "y": "yes",
        "n": "no",
        "o": "off",
        "t": True,
        "T": False,
        "i": -5,
        "f": 1.5,
        "e": 1000.0,
        "z": None,
        "v": None,
    }


@pytest.mark.parametrize(
    "text", ["00:55:00", "0755", "0x10", "1_000", "2024-01-31", "1.2.3", "yes", "on", ".", "-"]
)
def test_what_only_looks_like_something_else_stays_text(text: str) -> None:
    assert read_yaml(f"a: {text}", "").values == {"a": text} or text == "-"
    assert scalar(text) == text


def test_keys_are_texts_whatever_they_look_like() -> None:
    assert read_yaml("{1: a, true: b, null: c, on: d}", "").values == {
        "1": "a",
        "true": "b",
        "null": "c",
        "on": "d",
    }


def test_anchors_and_merges_work_and_what_stands_here_wins() -> None:
    text = """
base: &base {a: 1, b: {c: 2}}
one: {<<: *base, a: 3}
two: {<<: [{a: 4}, *base]}
same: *base
"""
    read = read_yaml(text, "")
    assert read.mistakes == []
    assert read.values["one"] == {"a": 3, "b": {"c": 2}}
    assert read.values["two"] == {"a": 4, "b": {"c": 2}}
    assert read.values["same"] == {"a": 1, "b": {"c": 2}}


def test_every_value_has_its_line_and_plain_ones_their_text() -> None:
    read = read_yaml("a:\n  b: 0755\n  c:\n  - x\n  - 'y'\nd: |\n  1\n  2\n", "f.yaml")
    places = {".".join(map(str, path)): (place.label, place.text) for path, place in read.places.items()}
    assert places == {
        "": ("f.yaml:1", None),
        "a": ("f.yaml:1", None),
        "a.b": ("f.yaml:2", "0755"),
        "a.c": ("f.yaml:3", None),
        "a.c.0": ("f.yaml:4", "x"),
        "a.c.1": ("f.yaml:5", None),
        "d": ("f.yaml:6", None),
    }


def test_an_empty_file_is_an_empty_configuration() -> None:
    for text in ("", "# nothing\n", "---\n"):
        read = read_yaml(text, "f.yaml")
        assert (read.values, read.mistakes) == ({}, [])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2\n  c: 3\n", ["f.yaml:4: b.c: is given twice, first in line 3", "f.yaml:5: b.c: is given twice, first in line 3"]),
        ("- a\n", ["f.yaml:1: must be keys with values"]),
        ("just text", ["f.yaml:1: must be keys with values"]),
        ("a: 'x\n", ["f.yaml:2: not YAML: found unexpected end of stream, while scanning a quoted scalar"]),
        ("a: b: c", ["f.yaml:1: not YAML: mapping values are not allowed here"]),
        ("a:\n\tb: 1", [r"f.yaml:2: not YAML: found character '\t' that cannot start any token, while scanning for the next token"]),
        ("a: [1, 2\nb: 3", ["f.yaml:2: not YAML: expected ',' or ']', but got ':', while parsing a flow sequence"]),
        ("a: 1\n---\nb: 2", ["f.yaml:2: not YAML: but found another document, expected a single document in the stream"]),
        ("a: 1\nb: \x00", ["f.yaml:2: not YAML: it holds a character that no text has"]),
        ("? [a]\n: 1", ["f.yaml:1: a key must be a text"]),
        ("a: &a {b: *a}", ["f.yaml:1: a.b: holds itself"]),
        ("a: &a {<<: *a}", ["f.yaml:1: a: '<<' takes another block, or a list of blocks"]),
        ("<<: 5", ["f.yaml:1: '<<' takes another block, or a list of blocks"]),
        ("a: !!int x", ["f.yaml:1: a: is not what its tag says"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(text: str, said: list[str]) -> None:
    assert mistakes(text) == said


@pytest.mark.parametrize(
    "text", ["p: *hush", "p: !hush", "p: !hush!x y", "p: @hush", "p: %hush", "p: 'hush", "p: {q: hush, r hush]", 'p: "\\hush"', "p: hush: hush", "p: &hush", "%hush"]
)  # fmt: skip
def test_a_password_that_is_no_yaml_is_not_shown(text: str) -> None:
    assert not [line for line in mistakes(text) if "hush" in line]
