"""Links to executors, sessions on them, and the bundles that travel."""
