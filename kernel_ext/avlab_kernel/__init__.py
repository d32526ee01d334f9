"""The notebook side: magics, proxies, displays."""
