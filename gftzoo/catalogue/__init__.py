"""The catalogue: what is known of every model, as data. No torch here."""
