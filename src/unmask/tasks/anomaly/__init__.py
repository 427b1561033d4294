"""What does not look as it should: learnt from normal images, judged with a promise about false alarms, drawn."""
