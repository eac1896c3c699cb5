"""Formulas that several measures share: sums over pairs, spectra, similarity of pictures."""
