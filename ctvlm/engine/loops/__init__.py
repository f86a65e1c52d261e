"""Training loops that continue from any iteration."""
