"""What people hand us: pictures and recordings, read within limits and cleaned up."""
