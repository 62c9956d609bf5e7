"""Tracks of one name become clusters: Ward with links, trees, numbers that stay, scores."""
