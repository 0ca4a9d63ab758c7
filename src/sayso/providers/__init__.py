"""Who makes predictions: the protocol, our own engine, and a scripted fake."""
