"""The same run with one setting changed at a time: the paper's Table 1 at small scale."""
