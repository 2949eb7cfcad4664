"""``dcnios import`` as someone at a terminal meets it."""

import json
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dcnios_daemon import cli
from tests.unit import fdl_samples
from tests.unit.importing import SCRIPT
from tests.unit.test_import_dcnios import WORKFLOW


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    Path("mine/gpu.yaml").write_text(fdl_samples.GPU)
    Path("mine/run.sh").write_text(SCRIPT)
    Path("flow.yaml").write_text(WORKFLOW)


def dcnios(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(cli.main, arguments, input=stdin)


def test_a_service_is_imported_and_checked_as_it_stands() -> None:
    result = dcnios("import", "fdl", "mine/gpu.yaml", "-o", "daemon.yaml")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "carried over" in result.stderr
    check = dcnios("check", "--config", "daemon.yaml", "--quiet")
    assert (check.exit_code, check.output) == (0, "sources.s3-cloud: no route takes its events\n")


def test_the_configuration_is_printed_and_the_report_beside_it() -> None:
    result = dcnios("import", "fdl", "mine/gpu.yaml")
    assert result.exit_code == 0
    assert "kind: job" in result.stdout
    assert "carried over" not in result.stdout
    assert SCRIPT.splitlines()[1] in result.stdout


def test_only_the_owner_can_read_what_is_secret() -> None:
    assert dcnios("import", "dcnios", "flow.yaml", "-o", "d.yaml", "--secrets", "hush/keys").exit_code == 0
    folder = Path("hush/keys")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = sorted(folder.iterdir())
    assert "dcache-password" in [file.name for file in files]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert "hush/keys/dcache-password" in Path("d.yaml").read_text()
    check = dcnios("check", "--config", "d.yaml", "--quiet")
    assert (check.exit_code, check.output) == (0, "sources.keep-s3: no route takes its events\n")


def test_nothing_is_replaced_unasked() -> None:
    assert dcnios("import", "dcnios", "flow.yaml", "-o", "d.yaml").exit_code == 0
    assert dcnios("import", "dcnios", "flow.yaml", "-o", "d.yaml").exit_code == 0  # the same again
    Path("d.yaml").write_text("mine: now\n")
    Path("secrets/dcache-password").write_text("newer")
    result = dcnios("import", "dcnios", "flow.yaml", "-o", "d.yaml")
    assert result.exit_code == 1
    assert "secrets/dcache-password, d.yaml: there already" in result.stderr
    assert Path("d.yaml").read_text() == "mine: now\n"
    assert dcnios("import", "dcnios", "flow.yaml", "-o", "d.yaml", "--force").exit_code == 0
    assert Path("secrets/dcache-password").read_text() == "dcache-pass-2"


def test_json_has_it_all() -> None:
    result = dcnios("import", "dcnios", "flow.yaml", "--json", "--bucket", "SQS-events=mine")
    said = json.loads(result.stdout)
    assert set(said) == {"configuration", "yaml", "report", "files"}
    assert said["configuration"]["sources"]["sqs-events"]["buckets"] == ["mine"]
    assert {found["verdict"] for found in said["report"]} == {
        "carried over",
        "carried over differently",
        "cannot be",
        "to do",
    }
    assert "secrets/dcache-password" in said["files"]


def test_standard_input_is_a_file_too() -> None:
    result = dcnios("import", "fdl", "-", "--minio", "https://minio.example.org", stdin=fdl_samples.API)
    assert result.exit_code == 0
    assert "s3://" in result.stdout


def test_several_files_make_one_configuration() -> None:
    Path("plain.yaml").write_text(fdl_samples.PLAIN)
    result = dcnios(
        "import", "fdl", "mine/gpu.yaml", "plain.yaml", "--staging-image", "registry.example.org/d:1"
    )
    assert "\n  train:" in result.stdout
    assert "\n  grayscale:" in result.stdout
    assert "kubernetes: {staging_image: 'registry.example.org/d:1'}" in result.stdout
    assert '"gray.sh" cannot be read' in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["fdl", "missing.yaml"], 1, "missing.yaml: No such file"),
        (["fdl", "flow.yaml"], 2, "holds no service"),
        (["dcnios", "mine/gpu.yaml"], 2, "holds no workflow"),
        (["fdl"], 2, "Missing argument"),
        (["fdl", "mine/gpu.yaml", "--minio", "minio"], 2, "write http://host:port"),
        (["dcnios", "flow.yaml", "--bucket", "x"], 2, "write NAME=BUCKET"),
    ],
)
def test_mistakes_are_said_in_words(arguments: list[str], code: int, said: str) -> None:
    result = dcnios("import", *arguments)
    assert result.exit_code == code
    assert said in result.stderr
    assert "Traceback" not in result.output


def test_bytes_that_are_no_text_are_said() -> None:
    Path("bad.yaml").write_bytes(b"name: \xff")
    result = dcnios("import", "fdl", "bad.yaml")
    assert (result.exit_code, result.stderr) == (2, "bad.yaml: is not UTF-8: byte 6\n")
