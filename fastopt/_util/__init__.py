"""What is specific to no optimizer: validation, arrays, random numbers, files."""
