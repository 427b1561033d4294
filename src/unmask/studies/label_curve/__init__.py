"""Accuracy against the number of labels: what is pretraining worth?"""
