"""The ways to reach an executor."""
