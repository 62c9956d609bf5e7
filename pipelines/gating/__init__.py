"""Quality gates: what a new version must pass before it is published."""
