"""What `--to detect` is called and what it makes."""

NAME = "detect"
MODEL = "detector"  # what transfer makes
