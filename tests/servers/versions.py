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
