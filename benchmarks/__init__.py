"""Measurements behind the claims of the README, each a command."""
