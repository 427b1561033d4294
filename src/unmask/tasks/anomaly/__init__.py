"""Where images are unlike normal ones: learned from normal images alone, with a bound on false alarms."""
