"""The ablations of the MAE paper on a data set of one's own: axes, runs, cost, what was found."""
