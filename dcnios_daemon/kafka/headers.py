"""Record headers by which daemons know each other's events: a sink writes them, a source reads them."""

KEY_HEADER = "dcnios-key"
"""Carries the key of the event inside: another daemon's, kept as it is."""
INSTANCE_HEADER = "dcnios-instance"
"""The daemon that wrote the record. What it wrote itself is a new happening to it: under the kept key its
journal would take it for a duplicate."""
