"""WebRTC: peers, tracks and DataChannels (aiortc)."""
