"""What every kind of ``run`` that ends in a cluster shares: the session, and how orders are followed there.

``cluster`` owns the client library and the credentials, and ``plugins`` the commands that give some of
them; ``calls`` says how a request goes out, ``answers`` what its answer means for an order, ``objects``
what is read of Jobs and pods. ``follow`` keeps up with what became of the orders, by ``watch``, judged by
``verdict``; ``ended_pods`` looks at the pods of failed ones; ``pauses`` waits while the API server is away.

``making`` has the parts of a Job that all write alike, ``marks`` the labels by which it is known again,
``creating`` makes it once; ``payload_secret`` sees to payloads that no pod holds.
``mirror`` keeps a collection in memory for those who decide by it, and ``rights`` asks what we may do.
"""
