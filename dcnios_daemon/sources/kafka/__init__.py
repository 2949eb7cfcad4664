"""Kafka: records of topics become events, and offsets are committed only after the journal's commit.

A consumer group rules where to go on, so that several daemons can share topics. What is committed to it is
exactly what a journal holds: a batch's offsets are committed when it is acknowledged, and never for a
partition that was taken away meanwhile, since its next owner reads on from what was committed and the keys
(topic, partition, offset, timestamp) tell what was seen before.

``membership`` owns the client library, ``records`` makes events, ``values`` decodes what names a schema of a
registry (``schema_registry``, ``avro``), ``source`` is the port.
"""
