"""Items, messages, codecs, nodes, channels: standard library only."""
