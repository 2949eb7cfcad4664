"""What the daemon says of itself: one typed event makes both the log line and the metric."""
