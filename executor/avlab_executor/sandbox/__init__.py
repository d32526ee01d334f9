"""Isolation tiers: what is locked, how, and how it is verified."""
