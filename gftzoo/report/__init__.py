"""What a run's folder says, for people: its state in a line, and one HTML file of all there is. No torch here."""
