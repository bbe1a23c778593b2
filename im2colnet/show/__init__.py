"""What a terminal and a picture show: progress, curves, text in any encoding."""
