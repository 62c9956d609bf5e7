"""Who plays: artist embeddings of tracks, and the names that artists go by."""
