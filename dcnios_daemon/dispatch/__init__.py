"""From queued to settled: who goes next, how many at once, how fast, and what follows from an outcome.

``dispatcher`` is the pump. It asks ``fairness`` whose turn it is, ``orders`` for room within ``limits``, and
``neighbours`` whom to leave alone (``pace``: how many at once; ``voice``: saying so); ``fallback`` knows the
other way of a route whose own has had no room for long. ``submission`` sends;
``started`` marks what was taken, ``doubts`` ends what was refused after a lost answer, ``outcomes`` settles,
``until_written`` waits for the disk. ``route`` is what it knows of a route.
"""
