"""The `modelyard` commands, a file for each group; `modelyard.cli` puts them together."""
