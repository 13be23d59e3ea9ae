"""The code that operator and gateway share. Both run from one image."""
