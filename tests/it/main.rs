//! Black-box tests over real sockets, in one binary.
