//! Archives in both formats.
