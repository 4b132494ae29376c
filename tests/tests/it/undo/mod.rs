//! Undo and redo of changes, with real images.

mod firmware;
mod fixture;
mod killed;
mod refused;
mod removing;
mod several;
mod steps;
