//! Tests of the log over a disk that loses, tears and flips.
