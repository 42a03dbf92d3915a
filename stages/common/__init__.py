"""What stages share. Nothing in here knows a stage."""
