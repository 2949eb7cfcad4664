"""The rate limiter in front of everything: plain-text 429 (section 1; RateLimitedHandlerList)."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from aiohttp import web

from .switches import Switches


@dataclass(slots=True)
class Limiter:
    """Token bucket and counter of 401s per client address."""

    switches: Switches
    _errors: Counter[str] = field(default_factory=Counter)
    _blocked: dict[str, float] = field(default_factory=dict)
    _buckets: dict[str, tuple[float, float]] = field(default_factory=dict)

    def refusal(self, request: web.BaseRequest) -> web.Response | None:
        """Return the 429 for this request, or None if it may pass."""
        client = _client(request)
        now = asyncio.get_running_loop().time()
        until = self._blocked.get(client, 0.0)
        if until > now:
            return self.busy(int(until - now))
        if self.switches.limit_rate > 0 and not self._acquire(client, now):
            return self.busy(1)
        return None

    def answered(self, request: web.BaseRequest, status: int) -> None:
        """Count a 401; at the limit the client is blocked."""
        if status != web.HTTPUnauthorized.status_code or self.switches.limit_errors <= 0:
            return
        client = _client(request)
        self._errors[client] += 1
        if self._errors[client] >= self.switches.limit_errors:
            del self._errors[client]
            self._blocked[client] = asyncio.get_running_loop().time() + self.switches.limit_block

    def busy(self, seconds: int) -> web.Response:
        """Return the limiter's reply."""
        headers = {"Retry-After": str(seconds)} if self.switches.limit_retry_after else {}
        return web.Response(status=429, text="Server is busy. Please try again later.", headers=headers)

    def forgive(self) -> None:
        """Block nobody any more."""
        self._blocked.clear()
        self._errors.clear()

    def _acquire(self, client: str, now: float) -> bool:
        """Take one permit; one second's worth may be saved up (Guava RateLimiter)."""
        rate = self.switches.limit_rate
        permits, last = self._buckets.get(client, (rate, now))
        permits = min(rate, permits + (now - last) * rate)
        allowed = permits >= 1
        self._buckets[client] = (permits - 1 if allowed else permits, now)
        return allowed


def _client(request: web.BaseRequest) -> str:
    forwarded = request.headers.get("X-Forwarded-For")
    return forwarded.split(",")[0] if forwarded else request.remote or ""
