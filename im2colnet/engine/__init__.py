"""Running a plan: memory, workers, and the program that each of them runs."""
