"""The journal: what stands between an event's arrival and its settlement, and survives everything."""
