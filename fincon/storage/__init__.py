"""Storage: the data folder, S3, locks."""
