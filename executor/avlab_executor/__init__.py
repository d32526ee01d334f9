"""The executor: sandboxed workers behind links."""
