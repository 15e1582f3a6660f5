//! Cameras, impairments and checking readers for tests and benches; never part of the product.
