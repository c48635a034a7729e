"""What must hold for every checkpoint that is right: `polyvec check`."""
