"""How well MIDI files find their recordings."""
