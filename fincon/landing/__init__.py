"""Landing: raw pages and a run's folder."""
