"""What a network costs, where its time goes, and whether this machine computes it well."""
