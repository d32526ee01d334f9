"""What tests of live pipelines need: networks with faults, reproducible and without root."""
