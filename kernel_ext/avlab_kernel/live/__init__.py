"""Live media in the notebook: views of a running pipeline."""
