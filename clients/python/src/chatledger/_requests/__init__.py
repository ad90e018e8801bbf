"""One file a service: each function turns the arguments of a method into its call."""
