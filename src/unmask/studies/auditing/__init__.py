"""Does a model treat groups of images differently, and did the data?"""
