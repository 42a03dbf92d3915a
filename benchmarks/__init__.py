"""Speed and memory, measured as ratios side by side; `make bench` runs all of it."""
