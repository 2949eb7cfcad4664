"""The journal: what stands between an event's arrival and its settlement, and survives everything.

``journal`` is its face, ``writer`` the one thread that does all transactions, a group of calls in each
(``transaction``, ``books``: the numbers it knows by heart). An event's way through it: ``intake``,
``claims`` (with ``grouping`` for batches, ``pauses`` of routes), ``settling``, ``housekeeping``. ``gate``
says when it is full; ``views`` shows it to people; ``records``, ``queries`` and ``steady`` are how rows,
SQL and time are written down; ``migrations`` brings older files up to date. The file: ``store`` opens it,
``disk`` watches it, ``sound`` says whether it still is, ``backup`` copies it, ``fsck`` mends it, ``salvage``
and ``pages`` read what is left of a damaged one.
"""
