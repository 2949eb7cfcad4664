"""What a Kafka source and a Kafka sink share: where the brokers are, how we log in, what failures mean.

Sources and sinks never know each other, so this stands beside ``staging``, below both. ``settings`` is what
can be said of a cluster in the configuration, ``library`` the client library, loaded when first needed, and
``brokers`` puts the two together.
"""
