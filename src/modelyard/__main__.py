"""`python -m modelyard`: the command, where it is not on the path."""

from modelyard.cli import main

main()
