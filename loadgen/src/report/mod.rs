//! What a run came to, for people and for other programs: everything here is made from [`summary`](crate::summary)'s
//! plain data, so a report made later from the JSON document says what the run said when it ended.
//!
//! Nothing here measures, and nothing here rounds a fault away: what went wrong is said wherever the result is. The
//! JSON document itself needs no module: serde writes it, and [`compare::load`] reads it.

pub mod compare;
pub mod hgrm;
pub mod plot;
pub mod svg;
pub mod table;

#[cfg(test)]
mod sample;
mod scale;
mod series;
pub(crate) mod units;
