"""A class for every picture: an encoder with a linear head, how it is trained, judged, stressed and asked."""
