"""Codecs, sources and sinks for audio and video (PyAV, numpy)."""
