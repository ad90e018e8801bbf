//! Access: who may come in, and who may do what.
//!
//! [`world`] is what belongs to two tenants and their users, and the credentials of everybody; [`requests`] has a request of each
//! method about the first of them. [`matrix`] sends each by every kind of caller. The others are about keys, tokens, streams that
//! outlive their credentials, and what is kept of it all.

mod keys;
mod matrix;
mod requests;
mod streams;
mod tokens;
pub mod world;
