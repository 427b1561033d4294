"""Which settings suit these images? Successive halving over short runs, judged on validation images."""
