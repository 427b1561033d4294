"""Which images to label next: unlike those that are labelled, unsure to the classifier, near copies once."""
