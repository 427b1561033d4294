"""Anomaly detection: learned from normal images alone, with a bound on the rate of false alarms."""
