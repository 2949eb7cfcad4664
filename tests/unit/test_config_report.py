"""The configuration shown to people."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from dcnios_daemon.config import report
from dcnios_daemon.config.load import load
from tests.unit.config_kinds import only_test_kinds

WITH_SECRETS = """
daemon: {instance: i, http: {admin_token: hush}}
buffer: {path: /var/j.db}
sources:
  a: {kind: shop, endpoint: "https://me:hush@store/x", access_key: hush, secret_key_file: key, reconcile: 90}
  b: {kind: hook}
routes:
  r:
    from: [a]
    rate: 30/m
    run:
      kind: box
      image: x
      env: {DB_PASSWORD: hush, MODE: fast}
      script: |
        one
        two
"""


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    Path("key").write_text("hush")
    Path("f.yaml").write_text(WITH_SECRETS)
    with only_test_kinds():
        yield


def test_what_is_in_force_is_shown_without_secrets() -> None:
    text = report.as_yaml(report.effective(load(Path("f.yaml"), environ={})))
    assert "hush" not in text
    shown = yaml.safe_load(text)
    assert shown["daemon"]["http"]["admin_token"] == "**********"
    assert shown["sources"]["a"] == {
        "kind": "shop",
        "endpoint": "https://**********@store/x",
        "access_key": "**********",
        "secret_key_file": "key",
        "buckets": [],
        "prefix": "",
        "watch": {},
        "reconcile": "90s",
        "ca_file": None,
        "receive": ["webhook"],
        "webhook_token": None,
    }
    assert shown["routes"]["r"]["from"] == ["a"]
    assert shown["routes"]["r"]["rate"] == "30/m"
    assert shown["routes"]["r"]["run"]["env"] == {"DB_PASSWORD": "**********", "MODE": "fast"}
    assert "      script: |\n        one\n        two\n" in text


def test_what_is_shown_can_be_read_again() -> None:
    first = report.effective(load(Path("f.yaml"), environ={}))
    Path("again.yaml").write_text(report.as_yaml(first))
    assert report.effective(load(Path("again.yaml"), environ={})) == first


def test_what_is_hardly_meant_is_noted() -> None:
    settings = load(Path("f.yaml"), environ={})
    assert report.notes(settings) == ["sources.b: no route takes its events"]
    assert report.summary(settings) == "2 sources, 1 route"
    assert report.notes(load(environ={"DCNIOS_LIMITS__RATE": "1/s"})) == [
        "there is no source: nothing will ever happen"
    ]


def test_the_schema_has_every_kind_and_the_files_of_secrets() -> None:
    schema = report.schema()
    definitions = schema["$defs"]
    blocks = {"daemon", "buffer", "limits", "kubernetes", "sources", "routes", "results", "services"}
    assert schema["properties"].keys() == blocks
    sources = schema["properties"]["sources"]["additionalProperties"]
    assert sources["discriminator"]["mapping"] == {"shop": "#/$defs/Shop", "hook": "#/$defs/Hook"}
    assert definitions["Shop"]["properties"]["kind"]["const"] == "shop"
    assert {"secret_key", "secret_key_file"} < definitions["Shop"]["properties"].keys()
    assert "admin_token_file" in definitions["Http"]["properties"]
    assert definitions["Route"]["properties"]["run"]["discriminator"]["mapping"].keys() == {"box", "nothing"}
    assert set(definitions["Route"]["required"]) == {"from", "run"}
    assert definitions["Route"]["additionalProperties"] is False
