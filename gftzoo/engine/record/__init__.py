"""What a run leaves behind beside its checkpoints: folder, log, numbers, pictures, and what it is made of."""
