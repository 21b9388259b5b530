//! requirements
