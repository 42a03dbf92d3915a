"""What `download` draws on: phantoms, archives, Kaggle."""
