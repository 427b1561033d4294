"""What `--to segment` is called and what it makes."""

NAME = "segment"
MODEL = "segmenter"  # what transfer makes
