"""Formulas that several measures share: sums over pairs, spectra, seeded pairs, similarity of pictures."""
