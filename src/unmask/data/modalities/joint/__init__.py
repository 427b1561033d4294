"""What samples of several kinds of data are made of: their files, their values in a row, maps of classes."""
