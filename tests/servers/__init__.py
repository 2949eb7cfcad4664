"""The test bed: real etcd, Kubernetes, MinIO and Kafka on loopback ports, for tests and for developers.

`python -m tests.servers` builds what is missing, starts everything and stays until it is interrupted.
Tests ask for the fixtures of `tests.servers.fixtures`, or start single servers in a `Workspace` of their own.
"""
