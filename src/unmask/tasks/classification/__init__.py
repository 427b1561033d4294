"""A class for every image: an encoder with a linear head, how it is trained, judged, stressed and asked."""
