"""What a release is recorded with: code, environment, lock, and the files that hold them."""
