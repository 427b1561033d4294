"""What `--to classify` is called and what it makes."""

NAME = "classify"
MODEL = "classifier"  # what transfer makes
