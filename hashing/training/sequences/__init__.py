"""Training of what matches MIDI files to recordings: pairs, hash sequences, embeddings."""
