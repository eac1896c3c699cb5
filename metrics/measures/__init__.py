"""The measures, one file each: settings, formula and score."""
