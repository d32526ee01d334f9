"""Pipelines: graphs of nodes and their running."""
