"""Generated artists: how each of their songs is composed, arranged, played and produced."""
