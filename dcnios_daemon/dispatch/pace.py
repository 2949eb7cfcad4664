"""How many submissions one neighbour may have to answer at the same time: as many as do it good.

Additive increase while answers come well and the limit is what holds us back; half of it when they come
slowly; after a failure, and its pause, from one on: doubling with each round trip up to half of what it was,
then one by one. That is TCP's way (RFC 5681) to use what is there, and what others leave, without knowing it.
"""

import math

SLOW = 0.5
"""Seconds. Answers that take less on average trouble nobody, however much less they took before: Kubernetes'
own objective for a call that changes something is one second, for 99 of 100. An API server on a crowded
machine takes a quarter of a second and still does the more, the more it is asked (measured)."""
RISE = 1.5
"""How many times its low-water mark an answer's mean time may be. Well below two, so that a mark
that was taken beyond the knee comes down: after a halving there the time is about half."""
HELPED = 0.8
"""A halving that leaves more than this part of the time was not the cure: the neighbour itself is slower."""
ROUND = 8
"""Answers of a round, at least: a mean of fewer says little."""
FIRST = 2
"""The limit at the beginning; it doubles with each round trip, so that the first answers tell of a neighbour
at rest."""
HOLD = 10.0
"""Seconds for which it stays below what made the neighbour fail: else it would fail again and again."""
MEMORY = 300.0
"""Seconds for which a low-water mark holds, at least; twice that at most."""


class _Round:
    """Answers to the submissions of one route, whose times can be compared, and the least of their means."""

    def __init__(self) -> None:
        self.answers = 0
        self.pressed = False
        self._seconds = 0.0
        self._least = self._least_before = math.inf
        self._since = -math.inf
        self._before_halving: float | None = None

    def add(self, seconds: float, *, pressed: bool) -> None:
        """One more answer."""
        self.answers += 1
        self._seconds += seconds
        self.pressed = self.pressed or pressed

    def is_slow(self, now: float, *, growing: bool) -> bool:
        """End the round; say whether its answers came slowly.

        Args:
            now: Monotonic seconds.
            growing: The limit grew during the round: how long answers take at what it is now is not known.
        """
        mean = self._seconds / self.answers
        if now - self._since >= MEMORY:
            self._least_before = self._least if now - self._since < 2 * MEMORY else math.inf
            self._least, self._since = math.inf, now
        if self._before_halving is not None and mean > HELPED * self._before_halving:
            self._least = self._least_before = mean
        self._least = min(self._least, mean)
        slow = mean > max(SLOW, RISE * min(self._least, self._least_before))
        self._before_halving = mean if slow and not growing else None
        self.begin()
        return slow

    def begin(self) -> None:
        """Forget the answers of the round, not what was learnt from earlier ones."""
        self.answers, self._seconds, self.pressed = 0, 0.0, False


class Pace:
    """The limit for one neighbour. It is never below one: a neighbour is always asked by someone.

    Args:
        most: The limit is never above it.
        strict: Hold to the limit even when it is as high as it gets. Else the number of workers does that,
            and orders may stand in line for them.
        heeds_time: Whether slow answers mean trouble. They do not where answering *is* the work.
    """

    def __init__(self, most: int, *, strict: bool = False, heeds_time: bool = True) -> None:
        self.most = most
        self.limit = min(FIRST, most)
        self._unanswered: set[object] = set()
        """Orders on their way, and those that stand in line for a worker; not those that were on their way
        when it failed: they may hang for long, and what comes of them says nothing new."""
        self._strict = strict
        self._heeds_time = heeds_time
        self._known_good = most
        self._filled = 0
        """How many of those on their way were there when there was no room for more: their answers may raise
        the limit; one that is not used does not grow."""
        self._halved = -math.inf
        self._ceiling, self._ceiling_until = most, -math.inf
        self._rounds: dict[str, _Round] = {}

    @property
    def unanswered(self) -> int:
        """Orders that count against the limit."""
        return len(self._unanswered)

    def room(self) -> float:
        """How many more may be sent now."""
        if self.limit >= self.most and not self._strict:
            return math.inf
        return max(0, self.limit - self.unanswered)

    def chosen(self, order: object) -> None:
        """It is about to be sent."""
        self._unanswered.add(order)
        if self.unanswered >= self.limit:
            self._filled = self.limit

    def withdrawn(self, order: object) -> None:
        """It was not sent after all, or its answer says nothing about the neighbour."""
        self._unanswered.discard(order)

    def answered(self, order: object, route: str, *, sent: float, now: float) -> bool:
        """The neighbour did what it was asked. Times are monotonic seconds.

        Returns:
            Whether the limit was halved, because answers come slowly.
        """
        if order not in self._unanswered:
            return False
        self._unanswered.remove(order)
        if sent <= self._halved:
            return False  # it tells of the time before
        pressed = self._filled > 0
        self._filled = max(0, self._filled - 1)
        finding_out = self.limit < self._known_good
        if pressed and finding_out:
            self._grow(now)
        this = self._rounds.setdefault(route, _Round())
        this.add(now - sent, pressed=pressed)
        if this.answers < (ROUND if finding_out else max(ROUND, self.limit)):
            return False
        pressed = this.pressed
        if this.is_slow(now, growing=finding_out) and self._heeds_time:
            return self._halve(now)
        if pressed:
            self._grow(now)
        return False

    def failed(self, order: object, now: float) -> None:
        """It failed, or asked for time: after its pause it is asked by one, and by more as that goes well."""
        if order not in self._unanswered:
            return
        self._unanswered.clear()
        if self.limit > 1:
            self._known_good = self.limit // 2
            self._ceiling, self._ceiling_until = self.limit - 1, now + HOLD
        self._shrink(1)

    def _grow(self, now: float) -> None:
        self.limit = min(self._ceiling if now < self._ceiling_until else self.most, self.limit + 1)

    def _halve(self, now: float) -> bool:
        before = self.limit
        self._known_good = max(1, before // 2)
        self._halved = now
        self._shrink(self._known_good)
        return self.limit < before

    def _shrink(self, limit: int) -> None:
        self.limit = limit
        self._filled = 0
        for this in self._rounds.values():
            this.begin()
