//! A real cluster for tests, and a way to it that misbehaves.
