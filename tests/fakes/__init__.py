"""Tests of dcnios-daemon."""
