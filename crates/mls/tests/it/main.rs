//! Conversations from outside: their life, the attacks on them, and interoperability.

mod attack_68;
mod life;
mod world;
