"""Which method suits the data: several are trained with one encoder and one budget, and judged alike."""
