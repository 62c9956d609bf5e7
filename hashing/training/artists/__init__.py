"""Training of artist embeddings: classic statistics, and the networks of Royo-Letelier et al."""
