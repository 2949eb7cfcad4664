"""What the operator wrote, as typed settings."""
