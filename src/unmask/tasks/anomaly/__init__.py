"""What does not look as it should: learnt from normal pictures, judged with a promise about false alarms, drawn."""
