"""Signalling outside of a notebook: rooms in which peers meet, over WebSocket (aiohttp)."""
