"""Reproductions: published results, trained and measured anew, told where they fail."""
