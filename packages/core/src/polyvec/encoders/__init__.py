"""The other encoders, one module each. Each needs an extra, named by its module."""
