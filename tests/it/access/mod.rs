//! Access: who may come in, and who may do what.
//!
//! [`world`] is what belongs to two tenants and their users, and the credentials of everybody; [`requests`] has a request of each
//! method about the first of them. [`matrix`] sends each by every kind of caller. The others are about keys, tokens and their
//! issuer, certificates, streams that outlive their credentials, the time of refusals, and what is kept of it all.

mod audit;
mod issuer;
mod keys;
mod matrix;
mod program;
mod requests;
mod streams;
mod timing;
mod tokens;
pub mod world;
