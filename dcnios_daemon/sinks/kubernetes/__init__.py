"""What every kind of ``run`` that ends in a cluster shares: how orders are made, and followed there.

``objects`` says what is read of Jobs and pods. ``follow`` keeps up with what became of the orders, by
``watch``, judged by ``verdict``; ``ended_pods`` looks at the pods of failed ones; ``pauses`` waits while the
API server is away.

``making`` has the parts of a Job that all write alike, ``creating`` makes it once; ``payload_secret`` sees to
payloads that no pod holds. ``mirror`` keeps a collection in memory for those who decide by it. The session
itself is :mod:`dcnios_daemon.kubernetes`, below.
"""
