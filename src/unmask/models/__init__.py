"""Networks: encoder, decoder, heads, pyramids."""
