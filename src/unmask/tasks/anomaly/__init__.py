"""Where images are unlike normal ones: learnt from normal images alone, with a bound on false alarms."""
