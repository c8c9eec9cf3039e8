//! The store against a plain list of messages that knows the rules and nothing else.

mod figures;
mod model;
mod random;
mod rules;
