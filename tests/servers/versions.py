"""Every version that the test bed pins, in one place: a changed one is built afresh beside the old one."""

from typing import Final

KUBERNETES: Final = "1.36.3"
CONTAINERD: Final = "2.2.9"
KUSTOMIZE: Final = "5.8.1"
KWOK: Final = "0.8.0"
MINIO: Final = "0.0.0-20260212201848-7aac2a2c5b7c"
MINIO_THAT_STREAMS: Final = "0.0.0-20250907161309-07c3a429bfed"
"""RELEASE.2025-09-07T16-13-09Z. Later ones never flush an answer without end (52eee5a2f, "Don't send multiple
responses for one request"), so nobody can listen to them."""
KAFKA: Final = "4.1.1"
KAFKA_SCALA: Final = "2.13"
SLF4J: Final = "1.7.36"
ELASTICMQ: Final = "1.6.16"
DEBIAN_SUITE: Final = "bookworm"
IMAGE_PYTHON: Final = "3.11"
"""The Python of that Debian suite, for which the image's dependencies are installed."""

DAEMON_IMAGE: Final = "localhost/dcnios-daemon:test"
PAUSE_IMAGE: Final = "localhost/dcnios-pause:test"

ITWINAI: Final = "0.4.2"
ITWINAI_NEEDS: Final = (
    "annotated-doc==0.0.7",
    "annotated-types==0.8.0",
    "antlr4-python3-runtime==4.9.3",
    "certifi==2026.10.18",
    "charset-normalizer==3.5.2",
    "click==8.1.8",
    "hydra-core==1.3.8",
    "idna==3.20",
    "markdown-it-py==4.3.0",
    "mdurl==0.1.2",
    "omegaconf==2.3.1",
    "packaging==26.3",
    "pydantic==2.14.3",
    "pydantic-core==2.50.4",
    "pygments==2.21.0",
    "pyyaml==6.0.3",
    "requests==2.34.2",
    "rich==15.0.0",
    "shellingham==1.5.4",
    "tabulate==0.10.0",
    "typer==0.29.2",
    "typing-extensions==4.16.0",
    "typing-inspection==0.4.5",
    "urllib3==2.8.0",
    "validators==0.36.0",
)
"""Of the 209 packages that it asks for, torch among them, those that its command line needs to start."""
