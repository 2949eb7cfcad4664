"""Writes each order to a Kafka topic: for other programs, or for daemons that read it and keep the keys.

``record`` makes the record, ``writer`` owns the connection.
"""

from dcnios_daemon.sinks.kafka.check import check
from dcnios_daemon.sinks.kafka.settings import KafkaRun
from dcnios_daemon.sinks.kafka.sink import KafkaSink, neighbour

__all__ = ["KafkaRun", "KafkaSink", "check", "neighbour"]
