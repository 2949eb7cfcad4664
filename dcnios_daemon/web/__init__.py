"""The one HTTP port: status page, JSON API, probes, metrics, and the way in for push sources."""
