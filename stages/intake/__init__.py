"""What a file is and shows."""
