"""The clusterkit command: `main` is the tree of commands, one file for each that is more than a question."""
