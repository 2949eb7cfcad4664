"""The documents tell the truth."""

import re
from pathlib import Path

from dcnios_daemon.config.load import load
from tests import reference

ROOT = Path(__file__).parent.parent.parent


def test_the_configuration_page_has_every_key() -> None:
    assert reference.PAGE.read_text(encoding="utf-8") == reference.render(), "run: python -m tests.reference"


def test_links_between_documents_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_the_architecture_page_names_only_files_that_exist() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    for path in re.findall(
        r"`((?:core|dispatch|sources|sinks|config|telemetry|web|staging|buffer|kubernetes|exposed)/[\w/]+\.py)`",
        text,
    ):
        assert (ROOT / "dcnios_daemon" / path).exists(), path


def test_a_package_that_tells_of_its_modules_tells_of_all() -> None:
    for package in (
        "sources/dcache",
        "sources/dcache/client",
        "exposed",
        "kubernetes",
        "sinks/kubernetes",
        "sinks/job",
        "sinks/interlink",
        "buffer",
        "dispatch",
    ):
        folder = ROOT / "dcnios_daemon" / package
        told = set(re.findall(r"``(\w+)``", (folder / "__init__.py").read_text(encoding="utf-8")))
        there = {path.stem for path in folder.glob("*.py")} | {
            path.parent.name for path in folder.glob("*/*.py")
        }
        assert there - told <= {"__init__", "sink", "settings"}, package


def test_the_configuration_on_the_first_screen_is_right(tmp_path: Path) -> None:
    [block] = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    file = tmp_path / "daemon.yaml"
    file.write_text(block, encoding="utf-8")
    settings = load(file, environ={}, files=False)
    assert list(settings.routes) == ["grayify"]


def test_make_lists_its_targets() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    wanted = ["help", "setup", "run", "test", "test-fast", "check"]
    wanted += ["fmt", "types", "bench", "testbed", "clean"]
    assert all(re.search(rf"^{target}:.*## \w", makefile, re.MULTILINE) for target in wanted)
