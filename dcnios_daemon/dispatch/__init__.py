"""From queued to settled: who goes next, how many at once, how fast, and what follows from an outcome."""
