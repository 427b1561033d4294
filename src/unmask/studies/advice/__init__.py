"""What to do with these images: facts about them, rules with their sources, a command to run."""
