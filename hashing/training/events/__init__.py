"""Training on labelled clips: the encoder, and quantizers that learn from labels."""
