"""An executor in a container of the local Docker engine."""
