"""The commands of ``avlab``, one module each; see avlab.cli for how others join."""
