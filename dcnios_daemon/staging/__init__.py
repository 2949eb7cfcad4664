"""Files in before a run and out after it, by short-lived leave instead of credentials."""
