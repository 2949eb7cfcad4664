"""Every configuration that is handed out works as it stands, with the real kinds of source and run."""

from pathlib import Path

import pytest

from dcnios_daemon.cli.common import compile_runs
from dcnios_daemon.config import report
from dcnios_daemon.config.load import load
from dcnios_daemon.config.model import DaemonSettings

CONFIG = Path(__file__).parents[2] / "config"
EXAMPLES = sorted((CONFIG / "examples").glob("**/*.yaml"))


def test_there_is_an_example_for_each_first_question() -> None:
    assert {example.stem for example in EXAMPLES} >= {
        "minio-to-job",
        "s3-sqs-to-job",
        "kafka-to-job",
        "dcache-to-job",
        "dcache-billing-to-job",
        "directory-to-process",
        "cloudevents-to-job",
        "dcache-to-interlink",
        "notebook",
        "service",
        "gpus-here-or-there",
        "itwinai-to-interlink",
        "itwinai-torchrun-to-interlink",
    }


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: str(path.relative_to(CONFIG / "examples")))
def test_an_example_is_right(example: Path) -> None:
    """Its secrets lie below /run/secrets, which is not here: files are not looked at."""
    settings = load(example, environ={}, files=False, further=compile_runs)
    assert settings.sources or settings.services
    assert bool(settings.routes) == bool(settings.sources)
    assert report.notes(settings) == []


def test_the_quickstart_needs_nothing_that_is_not_in_it() -> None:
    settings = load(CONFIG / "quickstart.yaml", environ={}, further=compile_runs)
    assert {source.kind for source in settings.sources.values()} == {"directory", "cloudevents"}
    assert {route.run.kind for route in settings.routes.values()} == {"process"}
    assert report.notes(settings) == []


def test_the_template_says_nothing_but_defaults() -> None:
    template = load(CONFIG / "daemon.yaml", environ={})
    assert report.effective(template) == report.effective(DaemonSettings())


def test_what_the_template_shows_are_the_defaults(tmp_path: Path) -> None:
    """Taking the # away from its plain settings changes nothing."""
    lines = (CONFIG / "daemon.yaml").read_text().split("sources: {}")[0].splitlines()
    shown = [line.replace("  # ", "  ", 1) if line.startswith("  # ") else line for line in lines]
    kept = [
        line
        for line in shown
        if "<host name>" not in line and "namespace: " not in line and "image: " not in line
    ]
    file = tmp_path / "daemon.yaml"
    file.write_text("\n".join(kept))
    assert report.effective(load(file, environ={})) == report.effective(DaemonSettings())


def test_the_sidecars_variables_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = (CONFIG / "env.example").read_text().splitlines()
    environ = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    settings = load(environ=environ, further=compile_runs)
    assert list(settings.sources) == ["camera-1"]
    assert settings.routes["develop"].sources == ("camera-1",)
    assert settings.routes["develop"].rate == 5
    assert settings.buffer.max_bytes == 200 * 2**20
    assert report.notes(settings) == []
