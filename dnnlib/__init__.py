"""Ground floor of the house: configuration codec, run folders, console. Standard library only, never torch."""
