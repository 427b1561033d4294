"""What is drawn on images: boxes, outlines, masks."""
