"""A page in the browser that draws from models: what it shows is in `page`, what is drawn in `drawing`."""
