"""What a memory is made of: synaptic models (Brian2) and networks (torch)."""
