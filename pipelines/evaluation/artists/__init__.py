"""How well artists of one name are told apart."""
