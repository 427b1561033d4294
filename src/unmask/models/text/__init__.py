"""Networks that read text, trained beside the encoder of images."""
