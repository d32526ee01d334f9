"""What runs inside a locked worker."""
