"""GenServer actors, their handlers and the references to them."""
