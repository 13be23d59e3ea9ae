"""What operator and gateway share. Both run from one image."""
