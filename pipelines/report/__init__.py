"""Pages that show what a job did: one HTML file, readable without a network."""
