"""Codecs of arrays, frames and packets; found by the entry points of the group ``avlab.codecs``."""
