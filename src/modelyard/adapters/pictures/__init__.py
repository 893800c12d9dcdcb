"""What a person looks at, drawn with matplotlib."""
