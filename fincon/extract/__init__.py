"""Extract: from Stripe onto disk."""
