"""How an index is doing: what can be told from its files without reading all of them."""
