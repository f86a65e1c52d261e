"""Cost of encoders and training steps: time, floating-point operations, memory, and their growth."""
