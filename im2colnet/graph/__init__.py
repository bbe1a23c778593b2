"""The static graph of a network, and passes over it."""
