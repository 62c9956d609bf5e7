"""How well short codes of labelled clips find clips of the same labels."""
