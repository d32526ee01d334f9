"""Environments: packages, and a Python, that sessions ask for. Built once, kept, and shared by sessions, which cannot change them."""
