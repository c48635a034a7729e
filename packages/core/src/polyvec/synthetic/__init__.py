"""Documents, texts and functions of a closed little world, with queries whose answers are known."""
