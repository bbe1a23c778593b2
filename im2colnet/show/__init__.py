"""Displays: progress and text on a terminal, curves and rooflines as pictures."""
