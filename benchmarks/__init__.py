"""Scripts that measure; each takes --device --resolutions --batches --dtypes --json FILE. Results are dated in results/."""
