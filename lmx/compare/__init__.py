"""Arms at one budget, side by side: which runs belong to a comparison, and what may be said of them. No torch."""
