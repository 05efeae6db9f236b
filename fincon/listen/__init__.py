"""Listen: take the events that Stripe sends, and have them on disk before Stripe is told so."""
