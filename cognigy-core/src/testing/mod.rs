//! Suites and stand-ins for whoever implements a port or tests a pipeline.
