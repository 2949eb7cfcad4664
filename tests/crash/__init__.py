"""The promise under every fault, judged from outside: ``make test-crash``.

`site` is the daemon's whole world behind faulty proxies, `feeds` makes the events, `troubles` the kills and
outages, `controller` ends and deletes the Jobs, `machine` has the disk and the clock, `storm` puts them
together, and `ledger` judges.

Who changes any of this should try it on a daemon that is broken on purpose (copy the package, patch it, put
the copy first on PYTHONPATH, ``--seed 5 --kills 12 --outages 40 --events 1500``). These were, and it noticed:
order names at random (*doubled*, in 21 s), acknowledged before it was committed (*lost*, *stuck*), orders of
earlier lives not counted (*slots*), the slot free while in doubt (*slots*: 80 of 75), a bucket that starts
full (*rate*: 16.9 of 12). A wrong dedupe it notices even when it is small (``--seed 3 --kills 3 --outages 5
--events 300``, in three minutes): keys that are forgotten when their events are settled, and keys that nobody
looks up (both *doubled*).
"""
