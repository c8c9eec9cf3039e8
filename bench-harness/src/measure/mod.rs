//! What is measured: CPU and memory of the server under test, our own CPU, latencies.

pub mod affinity;
pub mod cpu;
pub mod histogram;
pub mod memory;
